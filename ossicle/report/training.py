"""What a training stage left behind: curves, codebook use, pictures.

Notable choices: a step that a crash made appear twice counts once, with its last record; arrays load only when asked
for; nothing is unpickled.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ArtifactError
from ..core.store import Artifact

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

METRICS, USAGE, PICTURES = "metrics.jsonl", "codebook_usage.npz", "pictures.npz"
FORMER_NAMES = {
    "label_entropy": "token_entropy",
    "label_perplexity": "token_perplexity",
    "labels_used": "tokens_used",
}
"""Metrics of older runs, with their names today."""


@dataclass(frozen=True)
class Curve:
    """A metric over steps; steps at which it was not measured, or not finite, are left out."""

    steps: list[int]
    values: list[float]

    def __bool__(self) -> bool:
        return bool(self.steps)


@dataclass(frozen=True)
class CodebookUsage:
    """How often each code was a token.

    Attributes:
        steps: (P,) int64, when the counts were taken
        counts: (P, K) tokens of each code since the count before
    """

    steps: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Picture:
    """One clip as the encoder met it; patch `column * bands + band`, band 0 is the lowest.

    Attributes:
        spectrogram: (T, F) float32, normalised
        tokens: (N,) the tokenizer's
        hidden: (N,) bool, patches that the encoder did not see
        predicted: (N,) the encoder's guesses; of use only where hidden
        column_seconds: time that one column of patches spans
    """

    path: str
    spectrogram: npt.NDArray[np.float32]
    tokens: npt.NDArray[np.int64]
    hidden: npt.NDArray[np.bool_]
    predicted: npt.NDArray[np.int64]
    columns: int
    bands: int
    column_seconds: float


@dataclass(frozen=True)
class Training:
    """A stage that trained: its records by step, and where its arrays lie."""

    name: str
    folder: Path
    records: list[Mapping[str, Any]]

    @staticmethod
    def in_folder(folder: Path) -> bool:
        """Whether an artifact is one of training."""
        return any((folder / name).is_file() for name in (METRICS, USAGE, PICTURES))

    @classmethod
    def read(cls, name: str, folder: Path) -> Training:
        """Read the metrics of the stage called `name`, the last record of each step.

        Raises:
            ArtifactError: if the artifact is damaged
        """
        entries = [
            {FORMER_NAMES.get(metric, metric): value for metric, value in entry.items()}
            for entry in read_lines(folder, METRICS)
        ]
        by_step = {entry["step"]: entry for entry in entries if isinstance(entry.get("step"), int)}
        return cls(name, folder, [by_step[step] for step in sorted(by_step)])

    def names(self) -> list[str]:
        """Every metric that was measured at least once, in order of appearance."""
        keys = dict.fromkeys(key for entry in self.records for key in entry if key != "step")
        return [key for key in keys if self.curve(key)]

    def curve(self, name: str) -> Curve:
        """The metric called `name`; empty if it was never measured."""
        points = [(entry["step"], entry[name]) for entry in self.records if _is_number(entry.get(name))]
        return Curve([step for step, _ in points], [float(value) for _, value in points])

    def usage(self) -> CodebookUsage | None:
        """How the codebook was used, if the stage counted it.

        Raises:
            ArtifactError: if the counts cannot be read
        """
        with _Arrays(self.folder, USAGE) as arrays:
            if not arrays:
                return None
            steps, counts = arrays["steps"], arrays["counts"]
            if counts.ndim != 2 or counts.shape[0] != len(steps):
                raise ValueError(f"`counts` must be ({len(steps)}, K), but is {counts.shape}")
            return CodebookUsage(steps, counts) if counts.size else None

    def pictures(self, limit: int) -> list[Picture]:
        """The first `limit` pictures; those without hidden patches, which a tokenizer's training leaves, are left out.

        Raises:
            ArtifactError: if they cannot be read
        """
        with _Arrays(self.folder, PICTURES) as arrays:
            return [_picture(arrays, number) for number in range(limit) if f"hidden_{number}" in arrays]


class _Arrays:
    """The arrays of an `.npz` by name, none if it is missing; whatever goes wrong inside is an `ArtifactError`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name

    def __enter__(self) -> Mapping[str, Any]:
        import numpy as np

        path = _file(self.folder, self.name)
        if path is None:
            return {}
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ArtifactError(f"`{self.name}` cannot be read: {error}") from error

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyError | ValueError | TypeError):
            raise ArtifactError(f"`{self.name}` is not as expected: {error}") from error


def _picture(arrays: Mapping[str, Any], number: int) -> Picture:
    columns, bands = int(arrays[f"columns_{number}"]), int(arrays[f"bands_{number}"])
    tokens, hidden, predicted = (arrays[f"{name}_{number}"] for name in ("tokens", "hidden", "predicted"))
    if not len(tokens) == len(hidden) == len(predicted) == columns * bands:
        raise ValueError(f"picture {number} must have {columns} x {bands} patches, but has {len(tokens)} tokens")
    return Picture(
        path=str(arrays[f"path_{number}"]),
        spectrogram=arrays[f"spectrogram_{number}"],
        tokens=tokens,
        hidden=hidden.astype(bool),
        predicted=predicted,
        columns=columns,
        bands=bands,
        column_seconds=float(arrays["column_seconds"]) if "column_seconds" in arrays else 0.0,
    )


def _file(folder: Path, name: str) -> Path | None:
    """An artifact's file, None if it was made without it."""
    artifact = Artifact(folder)
    return artifact.file(name) if artifact.holds(name) else None


def read_lines(folder: Path, name: str) -> list[Mapping[str, Any]]:
    """The mappings in an artifact's file of JSON lines, none if it was made without it.

    A line that a crash cut short is skipped.

    Raises:
        ArtifactError: if the artifact is damaged
    """
    found: list[Mapping[str, Any]] = []
    path = _file(folder, name)
    for line in path.read_text("utf-8", errors="replace").split("\n") if path else []:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
