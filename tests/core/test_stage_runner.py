"""Running stages: what is made, stored, reused and reported to plugins."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy
import pytest
import torch

from ossicle.core.catalog import Catalog
from ossicle.core.corpora import Corpora
from ossicle.core.display import Silent
from ossicle.core.errors import Interrupted, PluginError
from ossicle.core.hooks import HOOKS, Hooks, hookimpl
from ossicle.core.interfaces import Tokenizer
from ossicle.core.parts import load_part
from ossicle.core.plugin_loading import Plugins, load_plugins
from ossicle.core.stage_runner import StageRecord, StageRun, run_stages
from ossicle.core.stages import Stage
from ossicle.core.store import Store
from ossicle.experiment.check import check
from ossicle.experiment.stage_order import in_order

pytestmark = pytest.mark.usefixtures("own_plugins")

Run = Callable[..., list[StageRecord]]


class HookRecorder:
    """A plugin that records which hooks were called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    @hookimpl
    def ossicle_stage_start(self, stage: Stage) -> None:
        self.calls.append(f"start {stage.name}")

    @hookimpl
    def ossicle_stage_end(self, stage: Stage, artifact: Any) -> None:
        self.calls.append(f"end {stage.name}: {artifact.card['metrics']}")


@dataclass(frozen=True, kw_only=True)
class Number(Stage):
    """Adds a number to the numbers of its inputs."""

    kind = "number"
    action = "fake_actions:write"

    number: int


@dataclass(frozen=True, kw_only=True)
class Interruptible(Number):
    """Like `Number`, but is interrupted the first time."""

    kind = "interruptible"
    action = "fake_actions:interrupted"


@dataclass(frozen=True, kw_only=True)
class Failing(Number):
    """Like `Number`, but fails."""

    kind = "failing"
    action = "fake_actions:fail"


@dataclass(frozen=True, kw_only=True)
class Unregistered(Number):
    """Uses the id of another kind."""


@pytest.fixture
def recorder() -> HookRecorder:
    return HookRecorder()


@pytest.fixture
def warnings() -> list[str]:
    """The warnings of the display of `run`."""
    return []


@pytest.fixture
def run(tmp_path: Path, recorder: HookRecorder, warnings: list[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Make a function that runs stages with one store. Their actions are in a module `fake_actions`."""
    actions = ModuleType("fake_actions")
    monkeypatch.setitem(sys.modules, "fake_actions", actions)

    def write(run: StageRun[Number]) -> None:
        read = [artifact.read_json("number.json") for artifact in run.inputs.values()]
        number = sum(read) + run.stage.number
        (run.folder / "number.json").write_text(str(number))
        run.metrics["number"] = number
        run.warnings.append("take care")

    def interrupted(run: StageRun[Number]) -> None:
        done = run.work / "done"
        if not done.is_file():
            done.touch()
            raise Interrupted("stopped half way")
        write(run)

    def fail(run: StageRun[Number]) -> None:
        (run.folder / "number.json").write_text("1")
        raise ValueError("no luck")

    actions.__dict__.update(write=write, interrupted=interrupted, fail=fail)
    manager = pluggy.PluginManager("ossicle")
    manager.add_hookspecs(Hooks)
    manager.register(recorder)
    catalog = Catalog()
    for kind in (Number, Interruptible, Failing):
        catalog.add_stage(kind)

    def run_them(*stages: Stage) -> list[StageRecord]:
        store = Store(tmp_path / "store")
        display = Silent()
        monkeypatch.setattr(display, "warn", warnings.append)
        plugins = Plugins(manager, catalog)
        return run_stages(in_order(stages), store=store, plugins=plugins, corpora=Corpora(Silent()), display=display)

    return run_them


def stage(name: str, number: int = 1, kind: type[Number] = Number, **inputs: str) -> Stage:
    return kind(name=name, number=number, inputs=inputs)


def test_stages_run_in_order_and_hooks_are_called(run: Run, recorder: HookRecorder) -> None:
    records = run(stage("sum", 10, left="one", right="two"), stage("one", 1), stage("two", 2))
    assert [record.stage.name for record in records] == ["one", "two", "sum"]
    assert recorder.calls == [
        "start one",
        "end one: {'number': 1}",
        "start two",
        "end two: {'number': 2}",
        "start sum",
        "end sum: {'number': 13}",
    ]
    card = records[2].artifact.card
    assert card["inputs"] == {"left": records[0].key, "right": records[1].key}
    assert card["config"] == {"number": 10}
    assert card["warnings"] == ["take care"]
    assert {"python", "ossicle", "torch", "fairseq2"} <= set(card["versions"])


def test_a_card_describes_its_kind_of_stage(run: Run) -> None:
    (record,) = run(stage("one", 1))
    card = record.artifact.card
    assert (card["kind"], card["flags"], card["training"], card["processes"]) == ("number", [], None, 1)
    assert card["origin"].startswith(f"defined in {__name__} sha256:")


def test_a_kind_of_stage_must_be_registered(run: Run) -> None:
    message = "no plugin offers `Unregistered`, the kind of stage `odd`: mark the class with `@ossicle.stage`"
    with pytest.raises(PluginError, match=message):
        run(stage("odd", kind=Unregistered))


def test_existing_artifacts_are_not_made_again(run: Run, recorder: HookRecorder) -> None:
    first = run(stage("one", 1), stage("sum", 10, left="one"))
    recorder.calls.clear()
    again = run(stage("one", 1), stage("sum", 10, left="one"))
    assert [record.reused for record in again] == [True, True]
    assert [record.artifact for record in again] == [record.artifact for record in first]
    assert recorder.calls == []


def test_two_experiments_share_equal_stages(run: Run) -> None:
    run(stage("one", 1), stage("sum", 10, left="one"))
    other = run(stage("first of another", 1), stage("sum", 20, left="first of another"))
    assert [record.reused for record in other] == [True, False]


def test_a_changed_stage_and_all_that_depend_on_it_run_again(run: Run) -> None:
    run(stage("one", 1), stage("two", 5), stage("sum", 10, left="one"))
    after = run(stage("one", 2), stage("two", 5), stage("sum", 10, left="one"))
    assert {record.stage.name: record.reused for record in after} == {"one": False, "two": True, "sum": False}


def test_a_failing_stage_leaves_no_artifact_and_keeps_earlier_ones(
    run: Run, recorder: HookRecorder, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no luck"):
        run(stage("one", 1), stage("bad", kind=Failing, left="one"))
    assert recorder.calls == ["start one", "end one: {'number': 1}", "start bad"]
    assert len(list((tmp_path / "store").glob("*/card.json"))) == 1
    assert not list((tmp_path / "store").rglob("*draft*"))
    assert [record.reused for record in run(stage("one", 1))] == [True]


def test_an_interrupted_stage_finds_its_work_again(run: Run, tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="stopped half way"):
        run(stage("one", 1, kind=Interruptible))
    assert not list((tmp_path / "store").glob("*/card.json"))
    assert [record.reused for record in run(stage("one", 1, kind=Interruptible))] == [False]
    assert not list((tmp_path / "store" / "work").iterdir()), "unfinished work is removed after the stage has run"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("number.json", b"", r"number\.json is damaged: it has 0 bytes instead of 1"),
        ("number.json", b"7", r"number\.json is damaged: its content does not match the digest in the card"),
        ("number.json", None, r"number\.json is missing"),
        ("card.json", b"{", r"card\.json is damaged: Expecting property name .*"),
        ("card.json", None, r"is not an artifact: it holds no card\.json"),
    ],
)
def test_a_damaged_artifact_is_made_again_before_it_is_read(
    name: str, damage: bytes | None, message: str, run: Run, warnings: list[str]
) -> None:
    first = run(stage("one", 1), stage("sum", 10, left="one"))
    file = first[0].artifact.path / name
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    again = run(stage("one", 1), stage("sum", 10, left="one"), stage("other sum", 20, left="one"))
    assert {record.stage.name: record.reused for record in again} == {"one": False, "sum": True, "other sum": False}
    assert again[2].artifact.read_json("number.json") == 21
    assert len(warnings) == 1
    assert re.fullmatch(f"`one` runs again: {re.escape(str(first[0].artifact.path))}.{message}", warnings[0])

    assert all(record.reused for record in run(stage("one", 1), stage("sum", 10, left="one")))
    assert len(warnings) == 1


def test_older_artifacts_without_a_list_of_files_are_reused(run: Run, warnings: list[str]) -> None:
    [record] = run(stage("one", 1))
    card = {name: value for name, value in record.artifact.card.items() if name not in ("files", "sha256")}
    (record.artifact.path / "card.json").write_text(json.dumps(card))
    again = run(stage("one", 1), stage("sum", 10, left="one"))
    assert [record.reused for record in again] == [True, False]
    assert warnings == []


def test_a_corpus_of_the_wrong_class(tmp_path: Path) -> None:
    code = (
        "import ossicle\nclass Settings(ossicle.Config):\n    pass\n"
        "@ossicle.corpus('odd')\nclass Odd:\n    def __init__(self, config: Settings) -> None: ...\n"
    )
    (tmp_path / "odd.py").write_text(code)
    (tmp_path / "odd.yaml").write_text(
        "name: odd\nplugins: [./odd.py]\ncorpus: odd\nfront_end: kaldi_fbank\nencoder: beats\n"
        "schedule: {type: beats, iterations: [{tokenizer: random_projection}]}\n"
        "pretrain: {steps: 1, objective: masked_prediction}\n"
    )
    with pytest.raises(
        PluginError, match=r"corpus `odd` of odd\.py sha256:\w+ cannot be built: it must be an ossicle\.Corpus"
    ):
        check(tmp_path / "odd.yaml", [], Corpora(Silent()), prepare=False)


def test_every_hook_is_documented() -> None:
    assert len(HOOKS) >= 5
    for name in HOOKS:
        assert getattr(Hooks, name).__doc__


PCA_SIGN = '''
import ossicle, torch

class PcaSignConfig(ossicle.Config):
    bits: int = 3

@ossicle.tokenizer("pca_sign")
class PcaSign(ossicle.Tokenizer):
    """The signs of the first principal components."""

    def __init__(self, config: PcaSignConfig, patch_dim: int) -> None:
        super().__init__(codebook_size=2**config.bits)
        self.register_buffer("mean", torch.zeros(patch_dim))
        self.register_buffer("axes", torch.zeros(patch_dim, config.bits))

    def fit(self, batches):
        patches = torch.cat([batch.patches[batch.valid] for batch in batches])
        self.mean.copy_(patches.mean(0))
        self.axes.copy_(torch.linalg.svd(patches - self.mean, full_matrices=False).Vh[: self.axes.shape[1]].T)

    def forward(self, batch):
        bits = ((batch.patches - self.mean) @ self.axes > 0).long()
        return (bits << torch.arange(bits.shape[-1], device=bits.device)).sum(-1)
'''


def test_a_fitted_tokenizer_runs_in_a_schedule(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "pca_sign.py").write_text(PCA_SIGN)
    text = tiny.read_text().replace("{type: random_projection, codebook_size: 16, codebook_dim: 8}", "pca_sign")
    tiny.write_text(f"plugins: [./pca_sign.py]\n{text}")
    checked = check(tiny, [], Corpora(Silent()), prepare=True)
    stages = [item for item in checked.stages if item.kind in ("survey", "tokenizer")]
    store = Store(tmp_path / "store")

    def run_it(stages: list[Stage]) -> list[StageRecord]:
        return run_stages(stages, store=store, plugins=checked.plugins, corpora=Corpora(Silent()))

    artifact = run_it(stages)[-1].artifact
    catalog = load_plugins([tmp_path / "pca_sign.py"]).catalog
    tokenizer = load_part(artifact, "tokenizer", Tokenizer, catalog)  # type: ignore[type-abstract]
    axes = tokenizer.state_dict()["axes"]
    assert torch.allclose(axes.T @ axes, torch.eye(3), atol=1e-4), "fitted axes are orthonormal, unfitted ones are 0"
    assert artifact.card["metrics"]["codebook_size"] == 8
    assert artifact.card["parts"]["tokenizer"]["origin"].startswith("pca_sign.py sha256:")

    (tmp_path / "pca_sign.py").write_text(PCA_SIGN.replace("> 0", ">= 0"))
    edited = check(tiny, [], Corpora(Silent()), prepare=True)
    changed = [item for item in edited.stages if item.kind in ("survey", "tokenizer")]
    assert [record.reused for record in run_it(changed)] == [True, False], (
        "the parts of an edited plugin must be made again"
    )
