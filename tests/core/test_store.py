"""The artifact store: whole artifacts or none."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ossicle.core.errors import ArtifactError
from ossicle.core.store import CARD, RUN, Artifact, Store, find_artifact, write_card

KEY = "0123456789abcdef" * 4


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def made(store: Store, text: str = "[1, 2, 3]") -> Artifact:
    with store.draft("survey", KEY) as folder:
        (folder / "result.json").write_text(text)
        (folder / "inner").mkdir()
        (folder / "inner" / "more.txt").write_text("more")
        return store.commit(folder, "survey", KEY, {"answer": 42})


def flip(path: Path) -> None:
    """Change one bit of a file, which keeps its size."""
    state, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    # A process computes a digest again only if the modification time has changed.
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))


def contents(store: Store) -> list[str]:
    return sorted(path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file())


def test_a_committed_draft_is_found_with_its_card(store: Store) -> None:
    assert store.find("survey", KEY) is None
    (store.work("survey", KEY) / "half.txt").write_text("unfinished")
    with store.draft("survey", KEY) as folder:
        (folder / "result.json").write_text("[1]")
        assert store.find("survey", KEY) is None, "an artifact must not be found before it is complete"
        made = store.commit(folder, "survey", KEY, {"answer": 42})
    found = store.find("survey", KEY)
    assert found == made
    assert (made.card["answer"], made.read_json("result.json")) == (42, [1])
    assert store.find("pretrain", KEY) is None
    assert contents(store) == [f"survey-{KEY[:16]}/{name}" for name in (CARD, "result.json")]


def test_a_draft_that_fails_leaves_only_unfinished_work(store: Store) -> None:
    (store.work("survey", KEY) / "checkpoint").write_text("step 3")

    def stopped() -> None:
        with store.draft("survey", KEY) as folder:
            (folder / "result.json").write_text("[1]")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert store.find("survey", KEY) is None
    assert contents(store) == [f"work/survey-{KEY[:16]}/checkpoint"]


def test_a_draft_of_a_killed_process_is_removed_by_the_next_process(store: Store) -> None:
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


def test_a_second_commit_keeps_the_first_artifact(store: Store) -> None:
    with store.draft("survey", KEY) as folder:
        first = store.commit(folder, "survey", KEY, {"by": "first"})
    with store.draft("survey", KEY) as folder:
        assert store.commit(folder, "survey", KEY, {"by": "second"}).card == first.card
    assert first.card["by"] == "first"


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (
        lambda folder: (folder / "result.json").write_text("[1"),
        "{folder}/result.json is damaged: it has 2 bytes instead of 9",
    ),
    "lost": (lambda folder: (folder / "inner" / "more.txt").unlink(), "{folder}/inner/more.txt is missing"),
    "flipped": (
        lambda folder: flip(folder / "result.json"),
        "{folder}/result.json is damaged: its content does not match the digest in the card",
    ),
    "card cut": (lambda folder: (folder / CARD).write_text('{"answer": 4'), "{folder}/card.json is damaged: "),
    "card changed": (
        lambda folder: (folder / CARD).write_text((folder / CARD).read_text().replace("42", "43")),
        "{folder}/card.json is damaged: it does not match its own digest",
    ),
    "card lost": (lambda folder: (folder / CARD).unlink(), "{folder} is not an artifact: it holds no card.json"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_artifact_is_not_found_and_replaced(damage: str, store: Store) -> None:
    artifact = made(store)
    assert store.find("survey", KEY, contents=True) is not None
    harm, message = DAMAGES[damage]
    harm(artifact.path)
    reports: list[str] = []
    assert store.find("survey", KEY, contents=True, on_damage=reports.append) is None
    assert len(reports) == 1
    assert reports[0].startswith(message.format(folder=artifact.path))

    assert made(store, "[4, 5, 6]").path == artifact.path
    found = store.find("survey", KEY, contents=True, on_damage=reports.append)
    assert found is not None
    assert found.read_json("result.json") == [4, 5, 6]
    assert len(reports) == 1
    assert not list((store.root / "work").iterdir())


@pytest.mark.parametrize("damage", DAMAGES)
def test_reading_a_damaged_artifact_raises_an_error_of_one_line(damage: str, store: Store) -> None:
    artifact = made(store)
    harm, message = DAMAGES[damage]
    harm(artifact.path)

    def read() -> None:
        for name in ("result.json", "inner/more.txt"):
            find_artifact(artifact.path).file(name)

    with pytest.raises(ArtifactError) as caught:
        read()
    assert str(caught.value).startswith(message.format(folder=artifact.path))
    assert "\n" not in str(caught.value)


def test_looking_an_artifact_up_does_not_read_its_files(store: Store) -> None:
    artifact = made(store)
    flip(artifact.path / "result.json")
    assert store.find("survey", KEY) is not None


def test_further_files_in_an_artifact_are_ignored(store: Store) -> None:
    artifact = made(store)
    (artifact.path / "notes.txt").write_text("mine")
    assert store.find("survey", KEY, contents=True) is not None
    with pytest.raises(ArtifactError, match=r"notes\.txt is missing"):
        artifact.file("notes.txt")


def test_an_older_artifact_without_a_list_of_files_stays_usable(store: Store) -> None:
    folder = store.root / f"survey-{KEY[:16]}"
    folder.mkdir(parents=True)
    (folder / CARD).write_text('{"answer": 42}')
    (folder / "result.json").write_text("[1]")
    found = store.find("survey", KEY, contents=True)
    assert found is not None
    assert found.read_json("result.json") == [1]
    with pytest.raises(ArtifactError, match=r"other\.json is missing"):
        found.read_json("other.json")


def test_a_reader_can_continue_after_its_artifact_was_replaced(store: Store) -> None:
    artifact = made(store)
    assert artifact.card["answer"] == 42
    with (artifact.path / "inner" / "more.txt").open() as opened:
        flip(artifact.path / "result.json")
        made(store, "[4, 5, 6]")
        assert opened.read() == "more"
    assert artifact.read_json("result.json") == [4, 5, 6]


def test_a_replaced_artifact_is_never_missing(store: Store, tmp_path: Path) -> None:
    artifact = made(store)
    missing, done = [], threading.Event()

    def look() -> None:
        while not done.is_set():
            try:
                (artifact.path / CARD).read_bytes()
            except OSError as error:
                missing.append(error)

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(20):
        (artifact.path / "result.json").write_text("cut")
        made(store, f"[{number}, {number}]")
    done.set()
    reader.join()
    assert missing == []
    assert artifact.read_json("result.json") == [19, 19]


def test_a_damaged_artifact_is_replaced_where_folders_cannot_be_swapped(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = made(store)
    (artifact.path / "result.json").write_text("cut")
    monkeypatch.setattr("ossicle.core.exchange.ctypes.CDLL", lambda name: SimpleNamespace())
    assert made(store, "[4]").read_json("result.json") == [4]
    assert contents(store) == [f"survey-{KEY[:16]}/{name}" for name in (CARD, "inner/more.txt", "result.json")]


def test_a_card_with_keys_that_are_not_text_matches_its_digest(tmp_path: Path) -> None:
    write_card(tmp_path, {"metrics": {10: 0.5, 9: float("nan")}})
    assert Artifact(tmp_path).card["metrics"]["10"] == 0.5


def test_a_folder_without_a_card_is_replaced(store: Store) -> None:
    (store.root / f"survey-{KEY[:16]}").mkdir(parents=True)
    (store.root / f"survey-{KEY[:16]}" / "left_over").touch()
    assert store.find("survey", KEY) is None
    with store.draft("survey", KEY) as folder:
        store.commit(folder, "survey", KEY, {})
    assert contents(store) == [f"survey-{KEY[:16]}/{CARD}"]


@pytest.mark.parametrize("damage", [b"", b'{"kind": "sur', b"\xff\xfe\x00", b"[1, 2]"])
def test_a_damaged_card_is_reported_with_the_remedy(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / CARD).write_bytes(damage)
    with pytest.raises(ArtifactError) as caught:
        _ = Artifact(tmp_path).card
    assert str(caught.value).startswith(f"{tmp_path / CARD} is damaged: ")
    assert str(caught.value).endswith("; repeat the run, or the import, that made it")


def test_a_folder_that_is_not_an_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nothing is not an artifact: it holds no card\.json"):
        _ = Artifact(tmp_path / "nothing").card


def test_the_artifact_of_a_run_is_its_encoder(tmp_path: Path) -> None:
    (tmp_path / RUN).write_text(json.dumps({"encoder": "own", "stages": []}))
    (tmp_path / "own").mkdir()
    write_card(tmp_path / "own", {})
    assert find_artifact(tmp_path).path == tmp_path / "own"


def test_one_process_makes_an_artifact_while_others_wait(store: Store) -> None:
    events: list[str] = []

    def make(name: str) -> None:
        with store.making("kind", KEY, on_wait=lambda: events.append(f"{name} waits")):
            events.append(f"{name} makes")

    with store.making("kind", KEY):
        other = threading.Thread(target=make, args=["other"])
        other.start()
        while not events:
            time.sleep(0.01)
        make_elsewhere = threading.Thread(target=make, args=["third"])
        make_elsewhere.start()
        while len(events) < 2:
            time.sleep(0.01)
        events.append("first is done")
    other.join()
    make_elsewhere.join()
    assert sorted(events[:2]) == ["other waits", "third waits"]
    assert events[2] == "first is done"
    assert sorted(line for line in events[3:] if line.endswith("makes")) == ["other makes", "third makes"]
    assert not list((store.root / "work").glob("*.lock"))
    with store.making("another", KEY, on_wait=lambda: events.append("waits for another kind")):
        make("last")
    assert events[-1] == "last makes"
