"""The artifact store: whole artifacts or none."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from ossicle.core.errors import ArtifactError
from ossicle.core.store import CARD, RUN, Artifact, Store, find_artifact

KEY = "0123456789abcdef" * 4


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def contents(store: Store) -> list[str]:
    return sorted(path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file())


def test_a_committed_draft_is_found_with_its_card(store: Store) -> None:
    assert store.find("survey", KEY) is None
    (store.work("survey", KEY) / "half.txt").write_text("unfinished")
    with store.draft("survey", KEY) as folder:
        (folder / "result.json").write_text("[1]")
        assert store.find("survey", KEY) is None, "nothing may be seen before it is whole"
        made = store.commit(folder, "survey", KEY, {"answer": 42})
    found = store.find("survey", KEY)
    assert found == made
    assert (made.card, made.read_json("result.json")) == ({"answer": 42}, [1])
    assert store.find("pretrain", KEY) is None
    assert contents(store) == [f"survey-{KEY[:16]}/{name}" for name in (CARD, "result.json")]


def test_a_draft_that_fails_leaves_nothing_but_its_unfinished_work(store: Store) -> None:
    (store.work("survey", KEY) / "checkpoint").write_text("step 3")

    def stopped() -> None:
        with store.draft("survey", KEY) as folder:
            (folder / "result.json").write_text("[1]")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert store.find("survey", KEY) is None
    assert contents(store) == [f"work/survey-{KEY[:16]}/checkpoint"]


def test_a_draft_of_a_process_that_was_killed_is_removed_by_the_next(store: Store) -> None:
    left = store.root / "work" / f"survey-{KEY[:16]}.draft-1"
    left.mkdir(parents=True)
    (left / "large").touch()
    with store.draft("survey", KEY) as folder:
        store.commit(folder, "survey", KEY, {})
    assert contents(store) == [f"survey-{KEY[:16]}/{CARD}"]
    assert not left.exists()


def test_a_card_that_cannot_be_written_leaves_no_artifact(store: Store) -> None:
    with pytest.raises(TypeError), store.draft("survey", KEY) as folder:
        store.commit(folder, "survey", KEY, {"metrics": object()})
    assert store.find("survey", KEY) is None


def test_whoever_comes_second_gives_way(store: Store) -> None:
    with store.draft("survey", KEY) as folder:
        first = store.commit(folder, "survey", KEY, {"by": "first"})
    with store.draft("survey", KEY) as folder:
        assert store.commit(folder, "survey", KEY, {"by": "second"}).card == {"by": "first"}
    assert first.card == {"by": "first"}


def test_a_folder_without_a_card_is_replaced(store: Store) -> None:
    (store.root / f"survey-{KEY[:16]}").mkdir(parents=True)
    (store.root / f"survey-{KEY[:16]}" / "left_over").touch()
    assert store.find("survey", KEY) is None
    with store.draft("survey", KEY) as folder:
        store.commit(folder, "survey", KEY, {})
    assert contents(store) == [f"survey-{KEY[:16]}/{CARD}"]


@pytest.mark.parametrize("damage", [b"", b'{"kind": "sur', b"\xff\xfe\x00", b"[1, 2]"])
def test_a_damaged_card_is_told_with_the_remedy(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / CARD).write_bytes(damage)
    with pytest.raises(ArtifactError) as caught:
        _ = Artifact(tmp_path).card
    assert str(caught.value).startswith(f"{tmp_path / CARD} is damaged: ")
    assert str(caught.value).endswith("; delete the folder to make it anew")


def test_a_folder_that_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nothing is no artifact: it holds no card\.json"):
        _ = Artifact(tmp_path / "nothing").card


def test_a_run_stands_for_its_last_encoder_that_is_no_control(tmp_path: Path) -> None:
    stages = [
        {"kind": "pretrain", "artifact": "old"},
        {"kind": "pretrain", "artifact": "own", "labels": {"control": False}},
        {"kind": "pretrain", "artifact": "control", "labels": {"control": True}},
        {"kind": "evaluate", "artifact": "scores"},
    ]
    (tmp_path / RUN).write_text(json.dumps({"stages": stages}))
    assert find_artifact(tmp_path).path == tmp_path / "own"


def test_one_makes_an_artifact_while_others_wait(store: Store) -> None:
    told: list[str] = []

    def make(name: str) -> None:
        with store.making("kind", KEY, on_wait=lambda: told.append(f"{name} waits")):
            told.append(f"{name} makes")

    with store.making("kind", KEY):
        other = threading.Thread(target=make, args=["other"])
        other.start()
        while not told:
            time.sleep(0.01)
        make_elsewhere = threading.Thread(target=make, args=["third"])
        make_elsewhere.start()
        while len(told) < 2:
            time.sleep(0.01)
        told.append("first is done")
    other.join()
    make_elsewhere.join()
    assert sorted(told[:2]) == ["other waits", "third waits"]
    assert told[2] == "first is done"
    assert sorted(line for line in told[3:] if line.endswith("makes")) == ["other makes", "third makes"]
    assert not list((store.root / "work").glob("*.lock"))
    with store.making("another", KEY, on_wait=lambda: told.append("waits for another kind")):
        make("last")
    assert told[-1] == "last makes"
