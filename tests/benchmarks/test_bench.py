"""`ossicle bench` measures, compares with other implementations, and reports those with different outputs."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from contenders import NEEDED, importing
from forked import forks
from rich.console import Console
from torch import Tensor

from ossicle.audio.kaldi_fbank import KaldiFbank
from ossicle.benchmarks import bench_runner as running
from ossicle.benchmarks.inference_works import encoder_work
from ossicle.benchmarks.measuring import Measured, Table, measure
from ossicle.benchmarks.peers import Peer, Weights, find_peers
from ossicle.benchmarks.protocol import Spread
from ossicle.benchmarks.report import markdown, print_table
from ossicle.benchmarks.seats import Seat
from ossicle.benchmarks.targets import Target
from ossicle.benchmarks.work import Case, Contender, Work
from ossicle.checkpoints.contents import load_weights
from ossicle.checkpoints.microsoft import convert_released
from ossicle.cli import main
from ossicle.core.data import AudioBatch
from ossicle.core.errors import OssicleError
from ossicle.core.interfaces import FrontEnd
from ossicle.encoders.beats import Beats


@pytest.fixture(scope="module", autouse=True)
def importable() -> Iterator[None]:
    """Make this module importable in the processes of contenders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2])
        yield


@pytest.mark.usefixtures("forked")
def test_bench_prints_and_writes_ratios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "new folder" / "page.md"
    assert main(["bench", "--quick", "--only", "front-end", "--out", str(page)]) == 0
    shown = capsys.readouterr().out
    figures = json.loads(page.with_suffix(".json").read_text())
    (front_end,) = figures["tables"]
    own = front_end["contenders"]["ossicle"]
    assert own["faster"]["lowest"] <= own["faster"]["median"] <= own["faster"]["highest"]
    assert own["difference"] < 1e-3
    assert f"{own['faster']['median']:.2f} [" in shown
    assert f"{own['faster']['median']:.2f} [" in page.read_text()
    assert "`ossicle bench --quick --only front-end`" in page.read_text()


def test_an_unknown_work_is_refused() -> None:
    with pytest.raises(OssicleError, match=r"there is no work called `encoders`\. Did you mean `encoder`"):
        running.bench(Console(), quick=True, targets=False, only=["encoders"], peers=[], out=None, command="")


def test_only_can_be_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--quick", "--only", "encoders", "--only", "front-end"]) == 2
    assert "there is no work called `encoders`" in capsys.readouterr().err


def test_a_missing_folder_of_a_peer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OssicleError, match="nowhere: not a folder; give the folder of BEATs"):
        find_peers([tmp_path / "nowhere"])


def right(weights: Weights) -> Callable[[AudioBatch], Tensor]:
    """An implementation with correct output that uses the released weights."""
    released = convert_released(dict(weights))
    model = Beats(released.config, patch_dim=256, bands=8).eval()
    load_weights(model, released.encoder)
    front_end: FrontEnd = KaldiFbank(released.front_end)
    return lambda clips: model(front_end(clips)).sequence


def wrong(weights: Weights) -> Callable[[AudioBatch], Tensor]:
    encode = right(weights)
    return lambda clips: 1.01 * encode(clips)


def broken(weights: Weights) -> Callable[[AudioBatch], Tensor]:
    raise RuntimeError("no such kernel")


def with_peers(case: Case, paths: Sequence[Path]) -> Work:
    return encoder_work(case, [Peer(how.__name__, how.__name__, how) for how in (broken, wrong, right)])


@pytest.fixture(scope="module")
def table(slow: None) -> Table:
    """Ossicle measured with three peers, one of which has a different output and one fails."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with forks():
            made = measure(Case("encoder", "tiny", 1), [], seconds=0.1, prepare=with_peers)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    return made


def test_only_contenders_with_equal_outputs_are_timed(table: Table) -> None:
    assert table.baseline == "right"
    assert table.contenders["right"].difference == pytest.approx(0.0, abs=1e-5)
    assert table.contenders["wrong"].failure == "its output differs: 1.0e-02"
    assert table.contenders["broken"].failure == "cannot be made: RuntimeError: no such kernel"
    assert table.contenders["wrong"].cpu is None
    page = markdown([table], "ossicle bench")
    assert "| wrong | not timed |" in page
    assert "- not timed: wrong: its output differs: 1.0e-02" in page


def test_no_encoder_is_faster_than_its_matrix_products(table: Table) -> None:
    assert table.rates["fp32"] > 0
    share = table.contenders["ossicle fp32"].share
    assert share is not None
    assert 0 < share.median < 1.1


def aborting() -> Callable[[], Contender]:
    os.abort()


@pytest.mark.usefixtures("forked")
def test_a_killed_process_of_a_contender_is_reported(tmp_path: Path) -> None:
    with Seat(aborting, str(tmp_path), ours=False) as seat, pytest.raises(OssicleError, match="its process was killed"):
        seat.enter()


@pytest.mark.slow
def test_memory_excludes_importing_and_making_a_contender(tmp_path: Path) -> None:
    with Seat(importing, str(tmp_path), ours=False) as seat:
        entry = seat.enter()
        assert entry.memory == pytest.approx(NEEDED, rel=0.2)
        assert seat.turn().cpu > 0


def test_names_are_not_parsed_as_markup() -> None:
    console = Console(file=io.StringIO(), width=200, color_system=None)
    failed = Measured(failure="no file [/data/x]")
    print_table(console, Table("encoder [v2]", 80.0, "[ours]", 3, {}, {"[ours]": failed}))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "encoder [v2] (3 rounds)" in shown
    assert "not timed: [ours]: no file [/data/x]" in shown


def test_targets_are_ratios_within_a_table() -> None:
    times = {"theirs": Spread(1.5, 1.4, 1.6), "ours": Spread(3.0, 2.9, 3.1)}
    contenders = {name: Measured(faster=faster, memory=100) for name, faster in times.items()}
    case = Case("encoder")
    tables = [Table(case.name, 80.0, "somebody", 3, {}, contenders)]
    target = Target(case, "ours", "theirs", "times faster", 1.9)
    assert target.reached(tables) == pytest.approx(2.0)
    assert target.holds(2.0)
    assert not Target(case, "ours", "theirs", "memory", 0.7).holds(1.0)
    assert Target(case, "ours", "nobody", "times faster", 1.5).reached(tables) is None
