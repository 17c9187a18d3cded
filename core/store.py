"""The artifact store: what stages made, each under its content key, written atomically.

An artifact is a folder with `card.json` (how it came about, what it measured) and whatever files its stage wrote. A
stage's unfinished work, such as checkpoints, lies under `work/` until the artifact is committed.
"""

from __future__ import annotations

import fcntl
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

CARD = "card.json"
RUN = "run.json"


@dataclass(frozen=True)
class Artifact:
    """The result of a stage: a folder with a card."""

    path: Path

    @cached_property
    def card(self) -> dict[str, Any]:
        """How the artifact came about.

        Raises:
            ArtifactError: if the card is missing or damaged
        """
        try:
            card = json.loads((self.path / CARD).read_text())
        except FileNotFoundError:
            raise ArtifactError(f"{self.path} is no artifact: it holds no {CARD}") from None
        except (ValueError, OSError) as error:
            raise ArtifactError(f"{self.path / CARD} is damaged: {error}; delete the folder to make it anew") from error
        if not isinstance(card, dict):
            raise ArtifactError(f"{self.path / CARD} is damaged: it is no mapping; delete the folder to make it anew")
        return card

    def read_json(self, name: str) -> Any:
        """Read one of the artifact's JSON files."""
        return json.loads((self.path / name).read_text())


def find_artifact(folder: Path) -> Artifact:
    """The artifact in a folder: the folder itself, or the last pre-trained encoder of the run that it is.

    A control, which is there to be compared with, is not taken for the run's encoder.

    Raises:
        ArtifactError: if it is neither
    """
    if not (folder / RUN).is_file():
        return Artifact(folder)
    stages = Artifact(folder).read_json(RUN)["stages"]
    encoders = [stage for stage in stages if stage["kind"] == "pretrain" and not stage.get("labels", {}).get("control")]
    if not encoders:
        raise ArtifactError(f"{folder} is a run without a pre-trained encoder")
    return Artifact((folder / encoders[-1]["artifact"]).resolve())


@dataclass(frozen=True)
class Store:
    """A folder of artifacts."""

    root: Path

    def find(self, kind: str, key: str) -> Artifact | None:
        """The artifact under this key, if it has been made."""
        path = self._path(kind, key)
        return Artifact(path) if (path / CARD).is_file() else None

    def work(self, kind: str, key: str) -> Path:
        """Where the stage with this key keeps unfinished work; made when missing."""
        path = self.root / "work" / f"{kind}-{key[:16]}"
        path.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def making(self, kind: str, key: str, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Let one process at a time make the artifact under `key`; others wait, and then find it.

        A process that dies holds nothing up.

        Args:
            on_wait: called if there is another one to wait for
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
                # Whoever held it before removed it: then it would keep nobody else out.
                if _is_at(path, lock.fileno()):
                    try:
                        yield
                    finally:
                        path.unlink()
                    return

    @contextmanager
    def draft(self, kind: str, key: str) -> Iterator[Path]:
        """Give a folder to write an artifact's files into, for `commit`; it is removed if the block fails.

        To be asked for within `making`: what processes that were killed there have left is removed first.
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
        """Make a draft the artifact under `key`; whoever comes second gives way. Unfinished work is removed."""
        (draft / CARD).write_text(json.dumps(card, indent=2, sort_keys=True))
        final = self._path(kind, key)
        if final.exists() and not (final / CARD).is_file():
            shutil.rmtree(final)
        try:
            draft.rename(final)
        except OSError:
            if not (final / CARD).is_file():
                raise
        shutil.rmtree(self.root / "work" / f"{kind}-{key[:16]}", ignore_errors=True)
        return Artifact(final)

    def _path(self, kind: str, key: str) -> Path:
        return self.root / f"{kind}-{key[:16]}"


def _is_at(path: Path, file: int) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
