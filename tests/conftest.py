"""Fixtures for all tests, and the limit on the processor time of tests that are not marked `slow`."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from forked import Program, forks, run_program
from PIL import Image

from ossicle.core.catalog import declared

MOST_CPU_SECONDS = 5.0
"""Limit for a test that is not marked `slow`. It is several times what such a test takes, because machines differ."""
MANY_MODULES = 100
"""The limit does not apply to a test that imports this many modules: it is the first one to need a library."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Mark the tests that use a slow fixture, and run slow tests first."""
    for item in items:
        if "slow" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")
    yield
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = slow_first(items, workers)


def slow_first(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """Order tests such that every worker starts with its share of the slow ones.

    With `--dist worksteal` each worker gets an equal stretch of the list. A worker without tests takes over the last
    ones of another, and quick tests divide best. Neighbours stay together, because they share fixtures.
    """
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        first, last = (len(slow) * number // workers for number in (worker, worker + 1))
        ordered += slow[first:last]
        ends = len(items) * (worker + 1) // workers
        ordered += quick[len(ordered) - last : ends - last]
    return ordered


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with quick_unless_slow(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with quick_unless_slow(item):
        yield


@contextmanager
def quick_unless_slow(item: pytest.Item) -> Iterator[None]:
    """Fail a test that exceeds the limit and is not marked `slow`.

    The limit applies only to `make test-fast`, because processor time depends on the machine.
    """
    before, modules = cpu_seconds(), len(sys.modules)
    yield
    taken, imported = cpu_seconds() - before, len(sys.modules) - modules
    fast_set = item.config.option.markexpr == "not slow"
    if fast_set and taken > MOST_CPU_SECONDS and imported < MANY_MODULES and item.get_closest_marker("slow") is None:
        pytest.fail(
            f"took {taken:.1f} s of processor time: mark the test with `@pytest.mark.slow`, or let its fixture use "
            "the fixture `slow`",
            pytrace=False,
        )


def cpu_seconds() -> float:
    """Measure the processor time of this process and of the child processes that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


@pytest.fixture(scope="session")
def slow() -> None:
    """Mark a fixture that takes seconds: tests whose fixtures use this one are marked `slow`."""


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings beside the checkout."""
    folder = Path(__file__).parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real recordings are not in {folder}")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of arrays made with the released implementation."""
    folder = Path(__file__).parents[1].parent / "shared" / "golden"
    if not folder.is_dir():
        pytest.skip(f"the golden arrays are not in {folder}")
    return folder


@pytest.fixture(scope="session")
def small_disk() -> list[str]:
    """The start of a command that runs a shell script in a mount namespace, in which it can mount a tmpfs."""
    command = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None:
        pytest.skip("`unshare` of util-linux, which mounts the small disk, is not installed")
    if subprocess.run([*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let a user mount a tmpfs in a namespace")
    return [*command, "sh", "-c"]


@pytest.fixture
def own_plugins() -> Iterator[None]:
    """Remove the plugins that the test loads into this process."""
    before, modules = list(declared), set(sys.modules)
    yield
    declared[:] = before
    for name in set(sys.modules) - modules:
        if name.startswith(("ossicle_plugin_file_", "fake_")):
            del sys.modules[name]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory, slow: None) -> Program:
    """A function that runs `ossicle` or a script like a new process, without the seconds that its imports take."""

    def run(
        *arguments: str | Path, cwd: Path, script: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(cwd)
            return run_program(*arguments, output=tmp_path_factory.mktemp("program"), script=script, **environment)

    return run


@pytest.fixture
def forked(slow: None) -> Iterator[None]:
    """Make the code under test fork the processes that it would spawn."""
    with forks():
        yield


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 clips of about a second in the folders train, valid and test, each with the classes `low` and `high`."""
    folder = tmp_path_factory.mktemp("recordings") / "tones"
    draw = np.random.default_rng(0)
    for split, clips in (("train", 6), ("valid", 3), ("test", 3)):
        for label, hertz in (("low", 200), ("high", 2000)):
            (folder / split / label).mkdir(parents=True)
            for number in range(clips):
                time = np.arange(12800 + 800 * number) / 16000
                wave = 0.3 * np.sin(2 * np.pi * hertz * (1 + 0.1 * draw.random()) * time)
                noisy = (wave + 0.01 * draw.standard_normal(len(time))).astype(np.float32)
                soundfile.write(folder / split / label / f"{number}.wav", noisy, 16000)
    return folder


TINY = """\
name: tiny
corpus: {{type: folder, path: {tones}, labels: folders}}
front_end: {{type: kaldi_fbank, mel_bins: 32}}
encoder:
  {{type: beats, layers: 1, width: 32, feed_forward: 32, heads: 2, patch_width: 16, conv_position_kernel: 8,
   conv_position_groups: 4}}
schedule:
  type: beats
  iterations:
    - tokenizer: {{type: random_projection, codebook_size: 16, codebook_dim: 8}}
pretrain:
  steps: 6
  batch_seconds: 4
  warmup_steps: 1
  log_every: 2
  checkpoint_every: 2
  threads: 1
  objective: {{type: masked_prediction, predictor: {{layers: 1, heads: 2}}}}
evaluate: [linear_probe, knn_probe]
"""


@pytest.fixture(scope="session")
def tiny_yaml(tones: Path) -> str:
    """An experiment that takes seconds: a one-layer encoder on `tones`, with both probes."""
    return TINY.format(tones=tones)


@pytest.fixture
def tiny(tiny_yaml: str, tmp_path: Path) -> Path:
    """The experiment of `tiny_yaml` as a file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_yaml)
    return path


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep runs from writing a report, which takes as long as a tiny training. Other tests check reports."""
    monkeypatch.setattr("ossicle.experiment.run.write_report", lambda *_: None)


BROWSER_FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update"
    " --disable-sync --disable-quic --hide-scrollbars --enable-logging=stderr"
)


@pytest.fixture
def browse(tmp_path: Path, slow: None) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that opens a page in a real browser, with further flags."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium or Chrome on this machine")

    def run(page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [browser, *BROWSER_FLAGS.split(), profile, *flags, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)

    return run


FRAME = """<!doctype html><title>-</title>
<iframe srcdoc="{html}" style="width: {width}px; height: 900px; border: 0"></iframe>
<script>
window.onload = () => {{
  const page = document.querySelector("iframe").contentDocument;
  document.title = JSON.stringify({expression});
}};
</script>
"""


@pytest.fixture
def measure(browse: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """A function that evaluates a JavaScript expression on a page.

    In the expression, `page` is the document. It has the given width in pixels, and all details are open.
    """

    def evaluate(source: Path, expression: str, *, width: int) -> Any:
        text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", source.read_text("utf-8"))
        text = html.escape(text.replace("<details>", "<details open>"))
        frame = tmp_path / f"frame-{width}.html"
        frame.write_text(FRAME.format(html=text, width=width, expression=expression), encoding="utf-8")
        title = re.search("<title>(.*)</title>", browse(frame, "--dump-dom").stdout)
        assert title is not None
        return json.loads(html.unescape(title[1]))

    return evaluate


CAPTIONED = """[...page.querySelectorAll(".grid > figure:has(> figcaption)")].map(figure => {
  const [plot, caption] = ["svg", "figcaption"].map(name => figure.querySelector(name).getBoundingClientRect());
  return {
    single: figure.matches(":last-child:nth-child(odd)"),
    below: caption.top - plot.bottom,
    left: caption.left - plot.left,
    right: caption.right - plot.right,
  };
})"""


@pytest.fixture
def check_captions(measure: Callable[..., Any]) -> Callable[[Path], None]:
    """A function that checks that every plot has its caption below it, also the single last one in a row of two."""

    def check(page: Path) -> None:
        for width in (500, 1280):
            captions = measure(page, CAPTIONED, width=width)
            assert any(caption["single"] for caption in captions)
            assert [caption for caption in captions if not 0 <= caption["below"] < 20] == []
            assert [caption for caption in captions if abs(caption["left"]) >= 1 or caption["right"] > 30] == []

    return check


@pytest.fixture
def drawn(browse: Callable[..., Any], tmp_path: Path) -> Callable[[Path, bool], npt.NDArray[np.float32]]:
    """A function that renders a page in the light or dark colour scheme and returns its grey values."""

    def draw(page: Path, dark: bool) -> npt.NDArray[np.float32]:
        shot = tmp_path / "shot.png"
        scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        browse(page, f"--screenshot={shot}", "--window-size=1280,1600", scheme)
        with Image.open(shot) as image:
            return np.asarray(image.convert("L"), np.float32)

    return draw
