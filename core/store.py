"""The artifact store: results of stages under their content keys, written atomically.

An artifact is a folder with `card.json` (provenance and metrics) and the files of its stage. Unfinished work of a
stage, such as checkpoints, is under `work/` until the artifact is committed.

Notable choices:

- A card lists the size and SHA-256 of every file, and its own SHA-256. An artifact that does not match is treated as
  missing, so its stage runs again. The new folder then replaces the damaged one.
- Looking an artifact up compares the sizes of its files, which is cheap however large the store is. Modification times
  are not compared: a failing disk leaves them as they were, and copying a store changes them.
- Contents are compared before they are used: a run reads every artifact that it reuses once, and `Artifact.file`, which
  all readers use, compares the file whose path it returns. A process computes each digest once.
- Older artifacts, whose cards list no files, cannot be compared and stay usable.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .errors import ArtifactError
from .exchange import exchange
from .file_list import damage_of, list_files

CARD = "card.json"
RUN = "run.json"
_REMEDY = "repeat the run, or the import, that made it"


@dataclass(frozen=True)
class Artifact:
    """The result of a stage: a folder with a card."""

    path: Path

    @cached_property
    def card(self) -> dict[str, Any]:
        """The provenance and the metrics of the artifact.

        Raises:
            ArtifactError: if the card is missing or damaged
        """
        path = self.path / CARD
        if not path.is_file():
            raise ArtifactError(f"{self.path} is not an artifact: it holds no {CARD}")
        card = _read_json(path)
        if not isinstance(card, dict):
            raise ArtifactError(f"{path} is damaged: it is not a mapping; {_REMEDY}")
        if card.get("sha256", digest := _digest(card)) != digest:
            raise ArtifactError(f"{path} is damaged: it does not match its own digest; {_REMEDY}")
        return card

    def damage(self, *, contents: bool = False) -> str | None:
        """Describe how the files of the artifact differ from its card. Return None if they do not.

        Args:
            contents: whether to compare the contents of the files, too, and not only their sizes

        Raises:
            ArtifactError: if the card is missing or damaged
        """
        listed = self.card.get("files", {})
        found = (damage_of(self.path / name, entry, contents=contents) for name, entry in listed.items())
        return next(filter(None, found), None)

    def holds(self, name: str) -> bool:
        """Return whether the card lists a file of this name."""
        return name in self.card["files"] if "files" in self.card else (self.path / name).is_file()

    def file(self, name: str) -> Path:
        """Return the path of a file of the artifact after comparing it with the card.

        Raises:
            ArtifactError: if it is missing or damaged
        """
        # Another process may have replaced the artifact since its card was read.
        path, current = self.path / name, Artifact(self.path)
        listed = current.card.get("files", {}).get(name)
        damage = damage_of(path, listed, contents=True) if listed else None
        if not current.holds(name) or damage is not None:
            raise ArtifactError(f"{damage or f'{path} is missing'}; {_REMEDY}")
        return path

    def read_json(self, name: str) -> Any:
        """Read one of the artifact's JSON files.

        Raises:
            ArtifactError: if it is missing or damaged
        """
        return _read_json(self.file(name))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged: {error}; {_REMEDY}") from error


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Make a folder an artifact: write its card, with a list of its files."""
    files = {name: entry for name, entry in list_files(folder).items() if name != CARD}
    # Read back, because JSON turns keys that are not text into text.
    plain = json.loads(json.dumps({**card, "files": files}))
    (folder / CARD).write_text(json.dumps({**plain, "sha256": _digest(plain)}, indent=2, sort_keys=True))


def _digest(card: Mapping[str, Any]) -> str:
    """Compute the SHA-256 of a card without its own entry `sha256`."""
    content = {name: value for name, value in card.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def find_artifact(folder: Path) -> Artifact:
    """Find the artifact in a folder: the folder itself, or the pre-trained encoder if the folder is that of a run.

    Raises:
        ArtifactError: if the folder is neither an artifact nor a run with an encoder, or if the artifact is damaged
    """
    artifact = Artifact(_result_of(folder) if (folder / RUN).is_file() else folder)
    if (damage := artifact.damage()) is not None:
        raise ArtifactError(f"{damage}; {_REMEDY}")
    return artifact


def _result_of(run: Path) -> Path:
    encoder = _read_json(run / RUN).get("encoder")
    if encoder is None:
        raise ArtifactError(f"{run} is a run without a pre-trained encoder")
    return Path(run, encoder).resolve()


@dataclass(frozen=True)
class Store:
    """A folder of artifacts."""

    root: Path

    def find(
        self, kind: str, key: str, *, contents: bool = False, on_damage: Callable[[str], None] = lambda damage: None
    ) -> Artifact | None:
        """Return the artifact under this key, or None if it does not exist or does not match its card.

        Args:
            contents: whether to compare the contents of its files, too, and not only their sizes
            on_damage: called with a description of the damage if the artifact does not match
        """
        artifact = Artifact(self._path(kind, key))
        if not artifact.path.is_dir():
            return None
        try:
            damage = artifact.damage(contents=contents)
        except ArtifactError as error:
            damage = str(error).removesuffix(f"; {_REMEDY}")
        if damage is not None:
            on_damage(damage)
        return artifact if damage is None else None

    def work(self, kind: str, key: str) -> Path:
        """Return the folder for unfinished work of the stage with this key. Creates it if it is missing."""
        path = self.root / "work" / f"{kind}-{key[:16]}"
        path.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def making(self, kind: str, key: str, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Let one process at a time make the artifact under `key`. Others wait, and then find it.

        The lock of a process that dies is released.

        Args:
            on_wait: called if another process holds the lock
        """
        path = self.root / "work" / f"{kind}-{key[:16]}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with path.open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    on_wait()
                    fcntl.flock(lock, fcntl.LOCK_EX)
                # The previous holder may have removed the file. Then this lock would not exclude others.
                if _is_at(path, lock.fileno()):
                    try:
                        yield
                    finally:
                        path.unlink()
                    return

    @contextmanager
    def draft(self, kind: str, key: str) -> Iterator[Path]:
        """Return a folder for the files of an artifact, to be passed to `commit`. It is removed if the block fails.

        Call it within `making`. Drafts left by killed runs are removed first.
        """
        name = f"{kind}-{key[:16]}.draft-"
        path = self.root / "work" / f"{name}{os.getpid()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{name}*"):
            shutil.rmtree(left, ignore_errors=True)
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def commit(self, draft: Path, kind: str, key: str, card: Mapping[str, Any]) -> Artifact:
        """Make a draft the artifact under `key`. Unfinished work is removed.

        A damaged artifact is replaced while another process may be reading it. If another process wrote the artifact in
        spite of `making` and it matches its card, that one is kept.
        """
        write_card(draft, card)
        final = self._path(kind, key)
        try:
            draft.rename(final)
        except OSError:
            if not final.is_dir():
                raise
            if self.find(kind, key, contents=True) is None:
                exchange(draft, final)
        shutil.rmtree(self.root / "work" / f"{kind}-{key[:16]}", ignore_errors=True)
        return Artifact(final)

    def _path(self, kind: str, key: str) -> Path:
        return self.root / f"{kind}-{key[:16]}"


def _is_at(path: Path, file: int) -> bool:
    """Return whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
