"""Stages: their order, and what enters the key under which their results are kept."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ossicle.core.catalog import Catalog, Origin
from ossicle.core.choices import PartChoice
from ossicle.core.config import Config
from ossicle.core.corpora import Corpora
from ossicle.core.corpus import Corpus, Manifest
from ossicle.core.display import Silent
from ossicle.core.errors import OssicleError
from ossicle.core.experiment import TrainingConfig
from ossicle.core.part_kinds import ossicle_register_part_kinds
from ossicle.core.plugin_loading import load_plugins
from ossicle.core.stages import Stage, describe, in_order, stage_key


def stage(name: str, *inputs: str) -> Stage:
    return Stage(name, "kind", "module:function", inputs={f"role {number}": name for number, name in enumerate(inputs)})


def names(*stages: Stage) -> list[str]:
    return [item.name for item in in_order(stages)]


def test_inputs_come_first_and_the_given_order_is_kept_otherwise() -> None:
    assert names(stage("a"), stage("b", "a"), stage("c"), stage("d", "b")) == ["a", "b", "c", "d"]
    assert names(stage("late", "early"), stage("other"), stage("early")) == ["early", "late", "other"]


def test_the_same_stage_may_be_listed_twice() -> None:
    assert names(stage("a"), stage("b", "a"), stage("a")) == ["a", "b"]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([stage("a"), stage("b"), stage("a", "b")], "two different stages are called `a`"),
        ([stage("a", "b")], "stage `a` needs `b` as its role 0, but there is no such stage"),
        ([stage("a", "c"), stage("b", "a"), stage("c", "b")], "the stages form a cycle: a -> c -> b -> a"),
        ([stage("a", "a")], "the stages form a cycle: a -> a"),
    ],
)
def test_graphs_that_cannot_run(stages: list[Stage], message: str) -> None:
    with pytest.raises(OssicleError) as caught:
        in_order(stages)
    assert str(caught.value) == message


class PartConfig(Config):
    """Of a part."""

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


TRAINING = TrainingConfig(steps=100)
BASE = Stage(
    name="iteration 1/pretrain",
    kind="pretrain",
    action="module:function",
    settings={"encoder": choice(), "corpus": choice("corpus"), "training": TRAINING, "splits": ("train",)},
    inputs={"tokenizer": "iteration 1/tokenizer"},
)


def key(of: Stage = BASE, *, inputs: Mapping[str, str] | None = None, fingerprint: str = "notes") -> str:
    return stage_key(of, inputs or {"tokenizer": "abc"}, lambda corpus: fingerprint)


def changed(**settings: Any) -> Stage:
    return dataclasses.replace(BASE, settings={**BASE.settings, **settings})


def training(**fields: Any) -> Stage:
    return changed(training=TrainingConfig(**{"steps": 100, **fields}))


DECIDES = {
    "an encoder's configuration": changed(encoder=choice(size=2)),
    "the version of the plugin": changed(encoder=choice(version="1.1")),
    "steps": training(steps=101),
    "learning rate": training(lr=1e-3),
    "precision": training(precision="bf16"),
    "a plain value": changed(splits=("train", "valid")),
    "the seed": dataclasses.replace(BASE, seed=1),
    "the revision": dataclasses.replace(BASE, revision=2),
    "the action": dataclasses.replace(BASE, action="module:other"),
}
DOES_NOT = {
    "how often metrics are written": training(log_every=5),
    "how often it is checkpointed": training(log_every=5, checkpoint_every=10),
    "how many threads compute": training(threads=4),
    "what people call it": dataclasses.replace(BASE, name="other", labels={"corpus": "other"}),
    "what people call its inputs": dataclasses.replace(BASE, inputs={"tokenizer": "other/tokenizer"}),
    "how a corpus is configured, if its clips are the same": changed(corpus=choice("corpus", size=2)),
}


def test_keys_are_the_same_in_every_process() -> None:
    assert key() == key()
    assert len(key()) == 64


@pytest.mark.parametrize("other", DECIDES.values(), ids=DECIDES)
def test_what_decides_a_result_changes_its_key(other: Stage) -> None:
    assert key(other) != key()


@pytest.mark.parametrize("other", DOES_NOT.values(), ids=DOES_NOT)
def test_what_does_not_decide_a_result_leaves_its_key(other: Stage) -> None:
    assert key(other) == key()


def test_inputs_and_corpora_change_the_key() -> None:
    assert key(inputs={"tokenizer": "abd"}) != key()
    assert key(fingerprint="other notes") != key()


def test_settings_are_described_as_plain_data() -> None:
    described = describe({"part": choice(size=3), "path": Path("here"), "none": None}, lambda corpus: "")
    assert described == {"part": {"type": "mine", "origin": "ears 1.0", "size": 3}, "path": "here", "none": None}
    assert json.loads(json.dumps(described)) == described


def test_moving_a_folder_of_recordings_leaves_the_keys(tones: Path, tmp_path: Path) -> None:
    catalog = load_plugins().catalog

    def key_at(folder: Path) -> str:
        corpus = PartChoice.of(catalog.get("corpus", "folder"), {"path": str(folder), "labels": "folders"})
        return stage_key(changed(corpus=corpus), {}, Corpora(Silent()).fingerprint)

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
