"""The results of a training stage: curves, codebook use, pictures.

Notable choices:

- A step that appears twice because of a crash counts once, with its last record.
- Arrays load on demand.
- Nothing is unpickled.
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
"""Names of metrics in older runs, with their present names."""


@dataclass(frozen=True)
class Curve:
    """A metric over steps. Steps at which it was not measured or not finite are left out."""

    steps: list[int]
    values: list[float]

    def __bool__(self) -> bool:
        return bool(self.steps)


@dataclass(frozen=True)
class CodebookUsage:
    """The counts of each code over training.

    Attributes:
        steps: (P,) int64, the steps of the counts
        counts: (P, K) int64, the number of tokens with each code since the previous count
    """

    steps: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Picture:
    """One clip as the encoder saw it. The index of a patch is `column * bands + band`; band 0 is the lowest.

    Attributes:
        spectrogram: (T, F) float32, normalised
        tokens: (N,) tokens from the tokenizer
        hidden: (N,) bool, patches that the encoder did not see
        predicted: (N,) tokens that the encoder predicts; meaningful only for hidden patches
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
    """A training stage: its records by step, and the folder with its arrays."""

    name: str
    folder: Path
    records: list[Mapping[str, Any]]

    @staticmethod
    def in_folder(folder: Path) -> bool:
        """Whether an artifact comes from training."""
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
        """List the metrics that were measured at least once, in order of appearance."""
        keys = dict.fromkeys(key for entry in self.records for key in entry if key != "step")
        return [key for key in keys if self.curve(key)]

    def curve(self, name: str) -> Curve:
        """Return the curve of a metric; empty if it was never measured."""
        points = [(entry["step"], entry[name]) for entry in self.records if _is_number(entry.get(name))]
        return Curve([step for step, _ in points], [float(value) for _, value in points])

    def usage(self) -> CodebookUsage | None:
        """Read the use of the codebook; None if the stage did not count it.

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
        """Read the first `limit` pictures. Pictures without hidden patches, from tokenizer training, are left out.

        Raises:
            ArtifactError: if the pictures cannot be read
        """
        with _Arrays(self.folder, PICTURES) as arrays:
            return [_picture(arrays, number) for number in range(limit) if f"hidden_{number}" in arrays]


class _Arrays:
    """A context with the arrays of an `.npz` file by name; empty if the file is missing.

    Errors inside the context become an `ArtifactError`.
    """

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
    """Return the path of a file of an artifact; None if the artifact was made without it."""
    artifact = Artifact(folder)
    return artifact.file(name) if artifact.holds(name) else None


def read_lines(folder: Path, name: str) -> list[Mapping[str, Any]]:
    """Read the mappings from a file of JSON lines in an artifact; empty if the artifact was made without it.

    Lines that are not valid JSON, such as one that a crash truncated, are skipped.

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
