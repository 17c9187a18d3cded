"""The command line as its user meets it: what it prints, where, and with which exit code."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
import yaml
from rich.console import Console

from ossicle import cli
from ossicle.audio.windows import OVERLAP_SECONDS, WINDOW_SECONDS
from ossicle.cli import main
from ossicle.core.errors import ArtifactError, OssicleError
from ossicle.display import TerminalDisplay
from ossicle.experiment.run import run
from ossicle.inference.ensemble import _shared
from ossicle.planning.dry_run import DryRun, DryRunStage, print_dry_run
from ossicle.report.verdict import Question

pytestmark = pytest.mark.usefixtures("own_plugins")

ROOT = Path(__file__).parents[3]
BROKEN = ROOT / "tests" / "core" / "config_files" / "broken"
EXAMPLE = ROOT / "examples" / "sign_hash.py"


class Shown(NamedTuple):
    """What a command gave."""

    code: int
    out: str
    err: str


class Commands:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Shown:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Shown(code, *self._capsys.readouterr())


@pytest.fixture
def ossicle(capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(capsys)


def started(*arguments: str | Path, cwd: Path) -> Shown:
    """Run a command as a process of its own."""
    command = [sys.executable, "-m", "ossicle", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
    return Shown(done.returncode, done.stdout, done.stderr)


# Broken experiments


def expectation(case: str) -> tuple[list[str], list[str]]:
    """The overrides and the lines that `broken/README.md` speaks of."""
    lines = (BROKEN / f"{case}.expected").read_text().format(file=f"{case}.yaml", here=BROKEN).splitlines()
    overrides = [line.removeprefix("override: ") for line in lines if line.startswith("override: ")]
    return overrides, lines[len(overrides) :]


def fits(given: str, wanted: list[str]) -> bool:
    lines = given.splitlines()
    return len(lines) == len(wanted) and all(
        line.startswith(want[:-1]) if want.endswith("…") else line == want
        for line, want in zip(lines, wanted, strict=True)
    )


@pytest.mark.parametrize("case", sorted(path.stem for path in BROKEN.glob("*.yaml")))
def test_broken_experiments(case: str, ossicle: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BROKEN)
    overrides, wanted = expectation(case)
    shown = ossicle("check", f"{case}.yaml", *overrides)
    assert shown.code == 2
    assert shown.out == ""
    assert fits(shown.err, wanted), shown.err


@pytest.mark.parametrize("case", ["misspelt_key", "bad_override"])
def test_broken_experiments_do_not_run(case: str, ossicle: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BROKEN)
    overrides, wanted = expectation(case)
    shown = ossicle("run", f"{case}.yaml", *overrides)
    assert (shown.code, shown.out) == (2, "")
    assert fits(shown.err, wanted), shown.err
    assert not (BROKEN / "runs").exists()


def test_a_process_of_its_own_shows_no_traceback() -> None:
    shown = started("check", "two_errors.yaml", cwd=BROKEN)
    assert (shown.code, shown.out) == (2, "")
    assert fits(shown.err, expectation("two_errors")[1]), shown.err


# Listing and explaining


def test_plugins_are_listed_in_columns(ossicle: Commands) -> None:
    shown = ossicle("plugins", EXAMPLE)
    assert (shown.code, shown.err) == (0, "")
    lines = shown.out.splitlines()
    own = next(line for line in lines if "sign_hash" in line)
    assert own.split()[:3] == ["tokenizer", "sign_hash", "sign_hash.py"]
    assert own.endswith("Hash a patch by the sides of random hyperplanes that it lies on (Charikar, 2002).")
    encoder = next(line for line in lines if line.startswith("encoder") and " beats " in line)
    for line, origin, summary in ((own, "sign_hash.py", "Hash a"), (encoder, "ossicle", "The encoder of BEATs")):
        at = line.index(origin, 20), line.index(summary)
        assert at == (own.index("sign_hash.py", 20), own.index("Hash a"))


def test_plugins_as_json(ossicle: Commands) -> None:
    listed = json.loads(ossicle("plugins", "--json").out)
    assert listed["failures"] == []
    assert {"kind": "encoder", "name": "beats"}.items() <= next(
        part for part in listed["parts"] if part["name"] == "beats"
    ).items()


def test_a_part_with_a_former_name_is_listed_once_with_both_names(ossicle: Commands) -> None:
    lines = [line for line in ossicle("plugins").out.splitlines() if line.split()[:2] == ["tokenizer", "position"]]
    assert len(lines) == 1
    assert lines[0].endswith(" Formerly `place`.")
    listed = json.loads(ossicle("plugins", "--json").out)["parts"]
    assert [part["aliases"] for part in listed if part["name"] in ("position", "place")] == [["place"]]
    assert ossicle("explain", "tokenizer", "place").out.startswith("tokenizer position, formerly place   (ossicle ")


def test_every_built_in_part_says_what_it_is(ossicle: Commands) -> None:
    for part in json.loads(ossicle("plugins", "--json").out)["parts"]:
        assert part["summary"].endswith("."), part
        assert not part["summary"].startswith("Settings of"), part


def test_explain(ossicle: Commands) -> None:
    text = ossicle("explain", "encoder", "beats").out
    assert text.startswith("encoder beats   (ossicle ")
    assert '  size: one of "tiny", "small", "base", "large"; default "base"\n      `base` (90 million' in text
    assert "  layers: whole number >= 1 or empty; default null\n" in text
    nested = ossicle("explain", "objective", "masked_prediction").out
    assert (
        "  predictor: mapping\n      What predicts the hidden patches.\n\n      layers: whole number >= 1; default 3\n"
        in nested
    )
    schedule = ossicle("explain", "schedule", "beats").out
    assert "  iterations: list of mapping; must be given\n" in schedule
    assert "      tokenizer: tokenizer (a part) or empty; default null\n" in schedule
    own = ossicle("explain", "tokenizer", "sign_hash", "--plugin", EXAMPLE).out
    assert "Hash a patch by the sides" in own
    assert "  bits: whole number; default 9\n      Random hyperplanes; the codebook has 2 ** bits codes.\n" in own


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tokenizer", "nope"], "there is no tokenizer called `nope`. Allowed: "),
        (["encoder", "beast"], "there is no encoder called `beast`. Did you mean `beats`? Allowed: beats, "),
        (
            ["tokeniser", "x"],
            "there is no kind of part called `tokeniser`. Did you mean `tokenizer`? Allowed: corpus, ",
        ),
    ],
)
def test_explaining_what_there_is_not(arguments: list[str], message: str, ossicle: Commands) -> None:
    shown = ossicle("explain", *arguments)
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.startswith(message)
    assert shown.err.count("\n") == 1


def unfit(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "") -> Iterator[str]:
    """What of JSON schema the experiments' schema uses, for want of a validator: yields what does not fit."""
    if "$ref" in schema:
        yield from unfit(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, at)
    for word in ("anyOf", "oneOf"):
        if word in schema and all(list(unfit(value, option, root, at)) for option in schema[word]):
            yield f"{at}: no branch takes {value!r}"
    if "not" in schema and not list(unfit(value, schema["not"], root, at)):
        yield f"{at}: {value!r} is ruled out"
    types = {"object": dict, "array": list, "string": str, "integer": int, "number": int | float, "null": type(None)}
    kind = types.get(schema.get("type", ""))
    if kind and (not isinstance(value, kind) or isinstance(value, bool)):
        yield f"{at}: {value!r} is no {schema['type']}"
    if "const" in schema and value != schema["const"]:
        yield f"{at}: {value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of {schema['enum']}"
    if isinstance(value, dict):
        yield from (f"{at}: {name} is missing" for name in schema.get("required", []) if name not in value)
        properties = schema.get("properties", {})
        for name, item in value.items():
            if name in properties:
                yield from unfit(item, properties[name], root, f"{at}.{name}")
            elif schema.get("additionalProperties") is False:
                yield f"{at}: unknown key {name}"
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for number, item in enumerate(value):
            yield from unfit(item, schema["items"], root, f"{at}.{number}")


def test_the_schema_takes_the_quickstart_and_refuses_a_misspelt_key(ossicle: Commands) -> None:
    schema = json.loads(ossicle("schema", "--plugin", EXAMPLE).out)
    quickstart = yaml.safe_load((ROOT / "experiments" / "quickstart.yaml").read_text())
    assert list(unfit(quickstart, schema, schema)) == []
    own = yaml.safe_load((ROOT / "examples" / "sign_hash.yaml").read_text())
    assert list(unfit(own, schema, schema)) == []
    assert list(unfit(quickstart | {"encoder": {"type": "beats", "sise": "tiny"}}, schema, schema))
    assert list(unfit(quickstart | {"encoder": "beast"}, schema, schema))
    assert list(unfit(quickstart | {"pretrain": {"steps": "many"}}, schema, schema))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["chek", "x.yaml"], "invalid choice: 'chek'"),
        (["check", "x.yaml", "--fast"], "unrecognized arguments: --fast"),
        (["run", "x.yaml", "--out", "there", "steps"], "unrecognized arguments: steps"),
    ],
)
def test_a_misspelt_command(arguments: list[str], message: str, ossicle: Commands) -> None:
    shown = ossicle(*arguments)
    assert shown.code == 2
    assert message in shown.err


# What stands in the way of a command is told before its work


@pytest.fixture
def in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a file called FILE and a folder called FOLDER.npz."""
    (tmp_path / "FILE").write_text("")
    (tmp_path / "FOLDER.npz").mkdir()
    (tmp_path / "tokenizer.pt").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


QUICKSTART = str(ROOT / "experiments" / "quickstart.yaml")
TOKENIZERS = str(ROOT / "experiments" / "ablations" / "tokenizers.yaml")
A_FILE = "`FILE` is a file where a folder must be; name another place\n"
A_PAGE = "the figures go there, beside the page; give the page another ending\n"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["run", QUICKSTART, "--out", "FILE"], f"--out FILE: {A_FILE}"),
        (["run", QUICKSTART, "--out", "FILE/runs"], f"--out FILE/runs: {A_FILE}"),
        (["run", QUICKSTART, "--store", "FILE"], f"--store FILE: {A_FILE}"),
        (["run", QUICKSTART, "--dry-run", "--out", "FILE"], f"--out FILE: {A_FILE}"),
        (["ablate", TOKENIZERS, "--out", "FILE"], f"--out FILE: {A_FILE}"),
        (["embed", "FILE", "FILE", "--out", "FOLDER.npz"], "--out FOLDER.npz: is a folder; name a file in it, such as"),
        (["import", "FILE", "--out", "FILE/new"], f"--out FILE/new: {A_FILE}"),
        (["export", "FOLDER.npz", "--out", "FOLDER.npz"], "--out FOLDER.npz: is a folder; name a file in it, such as"),
        (["tokens", "FILE", "--out", "FOLDER.npz"], "--out FOLDER.npz: is a folder; name a file in it, such as"),
        (
            ["tokens", "FILE", "--out", "FILE/x.html"],
            f"--out FILE/x.html: {A_FILE}",
        ),
        (["tokens", "FILE", "--out", "page.json"], f"--out page.json: {A_PAGE}"),
        (["tokens", "FILE", "--seed", "-1"], "a seed must be 0 or more, but is -1\n"),
        (["tokens", "nope"], "`nope` does not exist; name a run, an artifact or a released checkpoint\n"),
        (["bench", "--out", "page.json"], f"--out page.json: {A_PAGE}"),
        (
            ["bench", "--quick", "--only", "quickstart"],
            "--quick does not measure `quickstart`; leave one of the two out",
        ),
        (
            ["run", QUICKSTART, "--steps", "100"],
            "--steps is for a dry run: add --dry-run to try 100 steps of every training, or say `pretrain.steps=100`",
        ),
        (
            ["run", QUICKSTART, "--dry-run", "--store", "S", "--elastic"],
            "--store and --elastic cannot go with --dry-run",
        ),
        (["run", QUICKSTART, "--dry-run", "--elastic"], "--elastic cannot go with --dry-run"),
    ],
    ids=lambda value: " ".join(word for word in value if "/" not in word) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_as_asked_is_refused(
    command: list[str], told: str, in_the_way: Path, ossicle: Commands
) -> None:
    before = sorted(in_the_way.rglob("*"))
    shown = ossicle(*command)
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.startswith(told)
    assert shown.err.count("\n") == 1
    assert sorted(in_the_way.rglob("*")) == before


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(13, "Permission denied", "/data/x.json"), "/data/x.json: Permission denied\n"),
        (
            OSError(28, "No space left on device"),
            "No space left on a disk: free some space there, and give the same command again\n",
        ),
    ],
)
def test_what_the_file_system_refuses_is_one_line(
    error: OSError, told: str, ossicle: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(options: object) -> int:
        raise error

    monkeypatch.setattr(cli, "_schema", refused)
    assert ossicle("schema") == (2, "", told)


def test_a_run_goes_on_once_its_full_disk_has_room(small_disk: list[str], tiny: Path, tmp_path: Path) -> None:
    # Too small for the first encoder, for a checkpoint, and large enough.
    script = """
        mount -t tmpfs -o size=40k tmpfs disk
        for size in 40k 500k 8m; do
            mount -o remount,size=$size disk
            "$1" -m ossicle run "$2" --store disk/store > $size.out 2> $size.err
            echo $?
        done
    """
    (tmp_path / "disk").mkdir()
    done = subprocess.run(
        [*small_disk, script, "sh", sys.executable, tiny], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("2\n2\n0\n", "")
    told = (
        f"No space left on the disk mounted on {tmp_path / 'disk'}, which holds disk/store: "
        "free some space there, and give the same command again\n"
    )
    errors = [(tmp_path / f"{size}.err").read_text() for size in ("40k", "500k", "8m")]
    assert errors == [told, told, ""]
    assert (tmp_path / "500k.out").read_text().count("pretrain") == 1, "the second disk is full when it trains"


def test_other_errors_of_the_system_keep_their_traceback(ossicle: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(options: object) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(cli, "_schema", broken)
    monkeypatch.setattr(cli, "_is_read", lambda stream: True)
    with pytest.raises(BrokenPipeError):
        ossicle("schema")


@pytest.mark.parametrize("command", ["schema", "plugins"])
def test_a_reader_who_has_enough_may_go(command: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "ossicle", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


# Checking


def test_check_prints_an_experiment_that_reads_back_to_itself(ossicle: Commands, tmp_path: Path) -> None:
    shown = ossicle("check", ROOT / "examples" / "sign_hash.yaml", "seed=3")
    assert shown.code == 0
    assert re.search(r"sign_hash\.yaml: nothing wrong; \d+ stages\n$", shown.err)
    again = tmp_path / "again.yaml"
    again.write_text(shown.out)
    assert "seed: 3\n" in shown.out
    assert ossicle("check", again).out == shown.out


def place(path: Path, text: str) -> str:
    """The `file:line:col` of the first place where a text stands in a file."""
    before = path.read_text().partition(text)[0]
    assert before != path.read_text(), f"{text} is missing"
    return f"{path}:{before.count(chr(10)) + 1}:{len(before.rpartition(chr(10))[2]) + 1}"


def test_check_finds_a_missing_folder(ossicle: Commands, tiny: Path) -> None:
    tiny.write_text(tiny.read_text().replace("/tones,", "/tunes,"))
    shown = ossicle("check", tiny)
    assert shown.code == 2
    assert shown.err.startswith(f"{place(tiny, '{type: folder')}: the folder `")
    assert "/tunes` does not exist" in shown.err
    assert shown.err.count("\n") == 1


def test_check_finds_labels_missing_under_a_probe(ossicle: Commands, tiny: Path) -> None:
    tiny.write_text(tiny.read_text().replace("labels: folders", "labels: none"))
    shown = ossicle("check", tiny)
    assert shown.code == 2
    assert shown.err.splitlines() == [
        f"{place(tiny, text)}: the corpus has no labels to judge by" for text in ("linear_probe", "knn_probe")
    ]


def test_check_finds_a_missing_split_of_a_probes_own_corpus(ossicle: Commands, tiny: Path, tones: Path) -> None:
    other = f"{{type: folder, path: {tones}/train, labels: folders, valid_share: 0.3}}"
    text = tiny.read_text().replace("[linear_probe, knn_probe]", f"\n  - {{type: knn_probe, corpus: {other}}}")
    tiny.write_text(text)
    shown = ossicle("check", tiny)
    assert shown.code == 2
    told = (
        "the corpus has no labelled clip in its split `test`: draw some by a folder's `test_share`, or name its clips"
    )
    assert shown.err == f"{place(tiny, other)}: {told} in a table's split column\n"


def test_check_finds_an_empty_training_split(ossicle: Commands, tiny: Path) -> None:
    tiny.write_text(tiny.read_text().replace("  threads: 1\n", "  threads: 1\n  splits: [unlabelled]\n"))
    shown = ossicle("check", tiny)
    assert shown.code == 2
    told = "corpus `tones` has no clip in the splits unlabelled. It has: test, train, valid"
    assert shown.err == f"{place(tiny, '[unlabelled]')}: {told}\n"


@pytest.mark.parametrize("encoder", ["beats", "plain_vit"])
def test_check_finds_heads_that_do_not_divide_the_width(encoder: str, ossicle: Commands, tiny: Path) -> None:
    text = tiny.read_text().replace("heads: 2}}}", "heads: 3}}}")
    if encoder == "plain_vit":
        text = re.sub(r"encoder:\n.*\n.*\n", "encoder: {type: plain_vit, width: 32, heads: 2}\n", text)
    tiny.write_text(text.replace("heads: 2}}", "heads: 3}}"))
    shown = ossicle("check", tiny)
    assert shown.code == 2
    assert shown.err == (
        f"{place(tiny, '{type: masked_prediction')}: `predictor.heads` must divide `width`, but 3 does not divide 32: "
        "set `predictor.heads` to one of 1, 2, 4, 8, 16, 32, or change `width`\n"
    )


def test_check_tells_all_misfits_in_the_order_of_the_lines(ossicle: Commands, tiny: Path) -> None:
    text = tiny.read_text().replace("/tones,", "/tunes,").replace("heads: 2}}", "heads: 3}}")
    tiny.write_text(text)
    lines = ossicle("check", tiny).err.splitlines()
    assert [line.removeprefix(f"{tiny}:").split(":")[0] for line in lines] == ["2", "18"]


# Running


def test_one_of_several_processes_must_know_the_others(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(OssicleError, match="WORLD_SIZE is 2, but MASTER_ADDR, MASTER_PORT must be set as well: start"):
        run(tiny, out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def finished(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shown]:
    """The one-file tokenizer's example, at a size that takes seconds, in a process of its own."""
    folder = tmp_path_factory.mktemp("finished")
    encoder = "{type: beats, layers: 1, width: 32, feed_forward: 32, heads: 2, patch_width: 16}"
    overrides = [
        f"corpus={{type: folder, path: {tones}, labels: folders}}",
        "front_end.mel_bins=32",
        f"encoder={encoder}",
        "encoder.conv_position_kernel=8",
        "pretrain.steps=6",
        "pretrain.batch_seconds=4",
        "pretrain.warmup_steps=1",
        "pretrain.log_every=2",
        "pretrain.checkpoint_every=2",
        "evaluate=[linear_probe, knn_probe]",
    ]
    (folder / "own.yaml").write_text(f"base: {ROOT / 'examples' / 'sign_hash.yaml'}\nname: own\n")
    return folder, started("run", "own.yaml", *overrides, cwd=folder)


def test_the_one_file_tokenizer_is_as_short_as_promised() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 25


def test_an_experiment_runs_from_its_yaml_to_its_report(finished: tuple[Path, Shown]) -> None:
    folder, shown = finished
    assert shown.code == 0, shown.err
    assert "Traceback" not in shown.err
    assert "linear_probe on tones" in shown.out
    assert "report: runs/own/report.html" in shown.out
    assert "sign_hash" in (folder / "runs/own/report.html").read_text()
    record = json.loads((folder / "runs/own/run.json").read_text())
    assert not any(stage["reused"] for stage in record["stages"])
    assert {"source", "parts"} == set(record["plugins"][0])
    assert any(plugin["source"].startswith("sign_hash.py sha256:") for plugin in record["plugins"])
    evaluated = [stage["name"] for stage in record["stages"] if stage["kind"] == "evaluate"]
    assert sorted(evaluated) == sorted(
        f"{task}/tones/{subject}"
        for task in ("linear_probe", "knn_probe")
        for subject in ("untrained", "iteration 1", "log-mel")
    )


def test_the_second_run_makes_nothing_anew(finished: tuple[Path, Shown], ossicle: Commands) -> None:
    folder, _ = finished
    before = json.loads((folder / "runs/own/run.json").read_text())
    cards = {path: path.stat().st_mtime_ns for path in (folder / "runs/.store").rglob("card.json")}
    shown = ossicle("run", folder / "runs/own/experiment.yaml", "--out", folder / "runs")
    assert shown.code == 0
    after = json.loads((folder / "runs/own/run.json").read_text())
    assert all(stage["reused"] for stage in after["stages"])
    assert [stage["key"] for stage in after["stages"]] == [stage["key"] for stage in before["stages"]]
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs/.store").rglob("card.json")} == cards


def test_damaged_artifacts_are_refused_and_made_again_by_the_next_run(
    finished: tuple[Path, Shown], ossicle: Commands, tones: Path
) -> None:
    folder, _ = finished
    run, experiment = folder / "runs/own", folder / "runs/own/experiment.yaml"
    stages = json.loads((run / "run.json").read_text())["stages"]
    (encoder,) = [(run / stage["artifact"]).resolve() for stage in stages if stage["kind"] == "pretrain"]
    weights, card = encoder / "encoder.safetensors", (run / stages[-1]["artifact"]).resolve() / "card.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    card.write_text(card.read_text()[:20])

    shown = ossicle("embed", run, tones, "--out", folder / "embeddings.npz")
    assert (shown.code, shown.out) == (2, "")
    assert shown.err == (
        f"{weights} is damaged: it has 100 bytes instead of {len(whole):,}; "
        "repeat the run, or the import, that made it\n"
    )
    shown = ossicle("run", experiment, "--out", folder / "runs")
    assert (shown.code, shown.err) == (0, "")
    told = "".join(shown.out.split())
    for name, damage in (("iteration 1/pretrain", f"{weights} is damaged: it has 100"), (stages[-1]["name"], card)):
        assert f"warning `{name}` runs again: {damage}".replace(" ", "") in told
    assert weights.read_bytes() == whole
    again = json.loads((run / "run.json").read_text())["stages"]
    assert [stage["name"] for stage in again if not stage["reused"]] == ["iteration 1/pretrain", stages[-1]["name"]]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("text", ["gone: [/data/x]", "pip install 'mine[torch]'", "iteration [v2]/pretrain", ":smile:"])
def test_what_others_say_is_shown_as_it_is(text: str, terminal: bool) -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=terminal, color_system=None)
    display = TerminalDisplay(console)
    display.note(text)
    display.warn(text)
    print_dry_run(DryRun(text, 2, 1.0, [DryRunStage(text, 1.0, 1.0, 1, 0.5)], None), console)
    display.start(text, 3)
    display.metrics({f"[/{text}] accuracy": 0.5})
    display.finish()
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert written.startswith(f"• {text}\nwarning {text}\n{text}: 2 steps")
    assert written.count(text) >= 4


# Ensembles


def test_a_task_that_runs_do_not_share_is_told_with_those_that_they_do() -> None:
    few = "fine_tune, 10 % of the labels"
    answers = {run: {Question(task, "c", "accuracy"): {} for task in (few, "linear_probe")} for run in ("one", "other")}
    assert [question.task for question in _shared(answers, None)] == [few, "linear_probe"]
    assert [question.task for question in _shared(answers, few)] == [few]
    allowed = re.escape(f"Allowed: '{few}', linear_probe.")
    with pytest.raises(ArtifactError, match=f"share no task called `fine_tune`. {allowed}"):
        _shared(answers, "fine_tune")
    with pytest.raises(ArtifactError, match=f"Did you mean `linear_probe`\\? {allowed}"):
        _shared(answers, "linear_prob")


# Embedding and tokenizing


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of 1.0 and 0.5 s, at different rates."""
    folder = tmp_path_factory.mktemp("sounds")
    draw = np.random.default_rng(1)
    for name, seconds, rate in (("a", 1.0, 16000), ("b", 0.5, 8000)):
        soundfile.write(folder / f"{name}.wav", 0.1 * draw.standard_normal(int(seconds * rate)), rate)
    return folder


COLUMNS = {"a": 6, "b": 3}
"""Whole patches of 16 frames of 10 ms; 1.0 s has 98 frames of 25 ms, 0.5 s has 48."""


def test_embeddings_as_npz(finished: tuple[Path, Shown], sounds: Path, tmp_path: Path, ossicle: Commands) -> None:
    out = tmp_path / "new" / "x.npz"
    shown = ossicle("embed", finished[0] / "runs/own", sounds, "--out", out)
    assert (shown.code, shown.out) == (0, f"2 files -> {out}\n"), shown.err
    with np.load(out) as file:
        made = dict(file)
    assert made["files"].tolist() == [str(sounds / "a.wav"), str(sounds / "b.wav")]
    assert made["offsets"].tolist() == [0, 6, 9]
    assert made["embedding"].shape == (9, 32)
    assert made["clip_embedding"].shape == (2, 32)
    assert made["clip_end"].tolist() == [1.0, 0.5]
    np.testing.assert_allclose(made["start"], [0.16 * column for count in (6, 3) for column in range(count)])
    assert (made["end"] > made["start"]).all()
    assert (made["end"][[5, 8]] <= made["clip_end"]).all()
    np.testing.assert_allclose(made["embedding"][:6].mean(0), made["clip_embedding"][0], atol=1e-4)


def test_embeddings_as_parquet_hold_clips_and_frames(
    finished: tuple[Path, Shown], sounds: Path, tmp_path: Path, ossicle: Commands
) -> None:
    out = tmp_path / "x.parquet"
    assert ossicle("embed", finished[0] / "runs/own", sounds, "--out", out).code == 0
    table = pyarrow.parquet.read_table(out)
    assert table.column_names == ["file", "scope", "embedding", "start", "end"]
    rows = table.to_pylist()
    assert [row["scope"] for row in rows] == ["clip"] * 2 + ["frame"] * 9
    assert [(row["start"], row["end"]) for row in rows[:2]] == [(0.0, 1.0), (0.0, 0.5)]
    for name, count in COLUMNS.items():
        own = [row for row in rows if row["file"] == str(sounds / f"{name}.wav") and row["scope"] == "frame"]
        np.testing.assert_allclose([row["start"] for row in own], 0.16 * np.arange(count))
        clip = next(row for row in rows if row["file"] == own[0]["file"] and row["scope"] == "clip")
        np.testing.assert_allclose(np.mean([row["embedding"] for row in own], axis=0), clip["embedding"], atol=1e-4)


def test_tokens(finished: tuple[Path, Shown], sounds: Path, tmp_path: Path, ossicle: Commands) -> None:
    out = tmp_path / "x.parquet"
    assert ossicle("tokenize", finished[0] / "runs/own", sounds / "b.wav", "--out", out).code == 0
    table = pyarrow.parquet.read_table(out).to_pydict()
    assert list(table) == ["file", "token", "start", "end", "low_hz", "high_hz"]
    assert len(table["token"]) == 3 * 2
    assert all(0 <= token < 512 for token in table["token"])
    np.testing.assert_allclose(table["start"], np.repeat(0.16 * np.arange(3), 2))
    assert table["low_hz"][0] < table["high_hz"][0] <= table["high_hz"][1] <= 8000
    assert table["low_hz"][:2] == table["low_hz"][2:4]


def test_what_cannot_be_embedded(finished: tuple[Path, Shown], sounds: Path, tmp_path: Path, ossicle: Commands) -> None:
    own = finished[0] / "runs/own"
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, message in (
        ((own, sounds, "--out", "x.csv"), "--out must end in .npz or .parquet, but is x.csv"),
        ((own, empty), f"{empty} holds no audio files (.aif"),
        ((own, tmp_path / "gone.wav"), f"{tmp_path / 'gone.wav'} does not exist"),
        ((empty, sounds), f"{empty} is not an artifact: it holds no card.json"),
    ):
        shown = ossicle("embed", *arguments)
        assert (shown.code, shown.out) == (2, "")
        assert shown.err.startswith(message)


@pytest.mark.parametrize("command", ["embed", "tokenize"])
def test_windows_are_those_of_python(command: str) -> None:
    # The command line names them by itself, for what defines them brings torch.
    options = cli._parser().parse_args([command, "part", "audio"])
    assert (options.window_seconds, options.overlap_seconds) == (WINDOW_SECONDS, OVERLAP_SECONDS)
