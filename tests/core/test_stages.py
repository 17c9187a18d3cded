"""Stages: which classes can be kinds of stages, and what enters the key of a result."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ossicle.core.catalog import Catalog, Origin
from ossicle.core.choices import PartChoice
from ossicle.core.config import Config
from ossicle.core.corpora import Corpora
from ossicle.core.corpus import Corpus
from ossicle.core.display import Silent
from ossicle.core.errors import PluginError
from ossicle.core.experiment import TrainingConfig
from ossicle.core.manifest import Manifest
from ossicle.core.part_kinds import ossicle_register_part_kinds
from ossicle.core.plugin_loading import import_file, load_plugins
from ossicle.core.stages import CorpusStage, Stage, describe, stage_key


@dataclass(frozen=True, kw_only=True)
class Plain(Stage):
    """A stage without settings."""

    kind = "plain"
    action = "module:function"


class PartConfig(Config):
    """Settings of a part."""

    size: int = 1


class Clips(Corpus):
    """One clip."""

    def __init__(self, config: PartConfig) -> None: ...

    def manifest(self) -> Manifest:
        raise NotImplementedError


def choice(kind: str = "encoder", *, version: str = "1.0", **config: Any) -> PartChoice:
    catalog = Catalog()
    with catalog.added_by(Origin("ears", version)):
        ossicle_register_part_kinds(catalog)
        catalog.add(kind, "mine", Clips)
    return PartChoice.of(catalog.get(kind, "mine"), config)


@dataclass(frozen=True, kw_only=True)
class Training(CorpusStage):
    """A stage with settings of every type."""

    kind = "training"
    action = "module:function"

    encoder: PartChoice
    training: TrainingConfig
    splits: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Another(Training):
    """The same kind of stage under another id."""

    kind = "another"


@dataclass(frozen=True, kw_only=True)
class Revised(Training):
    """The same kind of stage with a revised action."""

    revision = 2


@dataclass(frozen=True, kw_only=True)
class Renamed(Training):
    """The same kind of stage with another class name and a moved action."""

    action = "elsewhere:other"
    objective_builder = "elsewhere:objective"


BASE = Training(
    name="iteration 1/pretrain",
    encoder=choice(),
    corpus=choice("corpus"),
    training=TrainingConfig(steps=100),
    splits=("train",),
    inputs={"tokenizer": "iteration 1/tokenizer"},
)
EARS = Origin("ears", "1.0")


def key(
    of: Stage = BASE, *, inputs: Mapping[str, str] | None = None, fingerprint: str = "notes", origin: Origin = EARS
) -> str:
    return stage_key(of, inputs or {"tokenizer": "abc"}, origin=origin, corpus_fingerprint=lambda corpus: fingerprint)


def changed(kind: type[Training] = Training, **settings: Any) -> Stage:
    """Copy the stage with some fields changed, optionally as another kind."""
    fields = {one.name: getattr(BASE, one.name) for one in dataclasses.fields(BASE)}
    return kind(**{**fields, **settings})


def training(**fields: Any) -> Stage:
    return changed(training=TrainingConfig(**{"steps": 100, **fields}))


ENTERS_KEY = {
    "an encoder's configuration": changed(encoder=choice(size=2)),
    "the version of the plugin": changed(encoder=choice(version="1.1")),
    "steps": training(steps=101),
    "learning rate": training(lr=1e-3),
    "precision": training(precision="bf16"),
    "a plain value": changed(splits=("train", "valid")),
    "the seed": changed(seed=1),
    "the id of its kind": changed(Another),
    "the revision of its kind": changed(Revised),
}
DOES_NOT_ENTER_KEY = {
    "how often metrics are written": training(log_every=5),
    "how often it is checkpointed": training(log_every=5, checkpoint_every=10),
    "how many threads compute": training(threads=4),
    "its display name": changed(name="other", tags={"corpus": "other"}),
    "the display names of its inputs": changed(inputs={"tokenizer": "other/tokenizer"}),
    "the name of its class and the module of its action": changed(Renamed),
    "how a corpus is configured, if its clips are the same": changed(corpus=choice("corpus", size=2)),
}


def test_keys_are_the_same_in_every_process() -> None:
    assert key() == key()
    assert len(key()) == 64


@pytest.mark.parametrize("other", ENTERS_KEY.values(), ids=ENTERS_KEY)
def test_what_determines_a_result_changes_its_key(other: Stage) -> None:
    assert key(other) != key()


@pytest.mark.parametrize("other", DOES_NOT_ENTER_KEY.values(), ids=DOES_NOT_ENTER_KEY)
def test_what_does_not_determine_a_result_does_not_change_its_key(other: Stage) -> None:
    assert key(other) == key()


def test_inputs_corpora_and_the_origin_of_the_kind_change_the_key() -> None:
    assert key(inputs={"tokenizer": "abd"}) != key()
    assert key(fingerprint="other notes") != key()
    assert key(origin=Origin("ears", "1.1")) != key()


KIND = """
from dataclasses import dataclass
from ossicle.core.stages import Stage

@dataclass(frozen=True, kw_only=True)
class {name}(Stage):
    kind = "counting"
    action = "{module}:count"
    number: int
"""


def test_a_kind_of_stage_keeps_its_keys_in_another_module(tmp_path: Path) -> None:
    keys = []
    for module, name in (("before", "Counting"), ("after", "CountingStage")):
        (tmp_path / f"{module}.py").write_text(KIND.format(module=module, name=name))
        kind = getattr(import_file(tmp_path / f"{module}.py"), name)
        catalog = Catalog()
        with catalog.added_by(EARS):
            catalog.add_stage(kind)
        counting = kind(name=module, number=3)
        keys.append(key(counting, origin=catalog.origin_of(counting)))
    assert keys[0] == keys[1]


def test_a_setting_of_an_unknown_type_is_refused() -> None:
    with pytest.raises(PluginError, match=r"a stage's settings must be plain values, .* but one is <object object at"):
        key(changed(splits=object()))


INVALID = {
    "not a stage": (Clips, r"the kind of stage `Clips` must be a subclass of ossicle\.Stage with `@dataclass\("),
    "not a dataclass": (type("Odd", (Plain,), {}), r"must be a subclass of ossicle\.Stage with `@dataclass\("),
    "no id": (dataclass(frozen=True)(type("Odd", (Stage,), {})), "stage `Odd` needs a stable id"),
    "an id that cannot name a folder": (
        dataclass(frozen=True)(type("Odd", (Plain,), {"kind": "a/b"})),
        "needs a stable id",
    ),
    "no action": (dataclass(frozen=True)(type("Odd", (Stage,), {"kind": "odd"})), "must name the function"),
}


@pytest.mark.parametrize(("kind", "message"), INVALID.values(), ids=INVALID)
def test_an_invalid_kind_of_stage_is_refused(kind: type[Stage], message: str) -> None:
    with pytest.raises(PluginError, match=message):
        Catalog().add_stage(kind)


def test_settings_are_described_as_plain_data() -> None:
    described = describe({"part": choice(size=3), "path": Path("here"), "none": None}, lambda corpus: "")
    assert described == {"part": {"type": "mine", "origin": "ears 1.0", "size": 3}, "path": "here", "none": None}
    assert json.loads(json.dumps(described)) == described


def test_moving_a_folder_of_recordings_does_not_change_keys(tones: Path, tmp_path: Path) -> None:
    catalog = load_plugins().catalog

    def key_at(folder: Path) -> str:
        corpus = PartChoice.of(catalog.get("corpus", "folder"), {"path": str(folder), "labels": "folders"})
        return stage_key(changed(corpus=corpus), {}, origin=EARS, corpus_fingerprint=Corpora(Silent()).fingerprint)

    moved = tmp_path / "elsewhere"
    shutil.copytree(tones, moved)
    before = key_at(tones)
    assert key_at(moved) == before
    (moved / "train" / "low" / "0.wav").rename(moved / "train" / "high" / "moved.wav")
    assert key_at(moved) != before


def test_a_manifest_is_read_once_per_corpus() -> None:
    read: list[int] = []

    class Counted(Clips):
        def __init__(self, config: PartConfig) -> None:
            self.size = config.size

        def manifest(self) -> Manifest:
            read.append(self.size)
            return Manifest(Path(), np.array(["a"]), np.array([1]), np.array([1], np.int32), np.array(["train"]), [()])

    catalog = Catalog()
    with catalog.added_by(Origin("ears")):
        ossicle_register_part_kinds(catalog)
        catalog.add("corpus", "counted", Counted)
    corpora = Corpora(Silent())
    for size in (1, 1, 2):
        corpora.manifest(PartChoice.of(catalog.get("corpus", "counted"), {"size": size}))
    assert read == [1, 2]
