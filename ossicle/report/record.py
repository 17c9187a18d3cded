"""What a run left behind, as a typed read-only view.

Notable choices: only `run.json` must exist; a stage that cannot be read is named in `problems` and left out, so that a
report of half a run can still be made. Curves, codebook use and pictures are read by `training`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import ArtifactError
from .training import Training, read_lines


@dataclass(frozen=True)
class Stage:
    """One step of the run.

    Attributes:
        artifact: its folder as `run.json` gives it, relative to the run
        folder: the same, resolved
        inputs: role to the name of the stage that filled it
        card: the artifact's own description; empty if it is gone
    """

    name: str
    kind: str
    key: str
    artifact: str
    folder: Path
    reused: bool
    seconds: float
    inputs: Mapping[str, str]
    card: Mapping[str, Any]


@dataclass(frozen=True)
class ProbeScore:
    """One figure on the test clips of a corpus, with its 95 % interval; shares in [0, 1].

    Attributes:
        others: further metrics of the same clips, without intervals
        folds: the figure of each test fold alone; empty without cross-validation
        stage: the stage that left it, with the predictions behind it
    """

    task: str
    corpus: str
    subject: str
    view: str
    metric: str
    value: float
    low: float
    high: float
    clips: int
    chosen: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, float] = field(default_factory=dict)
    folds: Mapping[str, float] = field(default_factory=dict)
    stage: Stage | None = None

    @property
    def valid(self) -> float | None:
        """The score on the validation split, by which views are chosen: `valid`, or `valid_` and the metric's name."""
        value = self.chosen.get("valid", self.chosen.get(f"valid_{self.metric}"))
        return float(value) if isinstance(value, int | float) else None

    @property
    def settings(self) -> dict[str, Any]:
        """What was chosen, without the score it was chosen by."""
        return {name: value for name, value in self.chosen.items() if name not in ("valid", f"valid_{self.metric}")}


@dataclass(frozen=True)
class Survey:
    """What the survey of a corpus found.

    Attributes:
        clips: split to number of clips
        hours: split to hours of audio
        bad: reason to number of files left out
        bad_files: records with `path`, `reason` and `detail`
        card: where the recordings come from, and their licence
    """

    corpus: str
    clips: Mapping[str, int]
    hours: Mapping[str, float]
    bad: Mapping[str, int]
    bad_files: list[Mapping[str, Any]]
    fingerprint: str
    card: Mapping[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """A run and everything its stages left, in the order in which they ran.

    Attributes:
        config: the text of the resolved configuration; empty if it is gone
        warnings: of the run and of every stage, each said once
        problems: what could not be read
    """

    folder: Path
    name: str
    command: str
    seed: int | None
    started: str
    finished: str
    seconds: float
    store: str
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    plugins: list[Mapping[str, Any]]
    config: str
    stages: list[Stage]
    scores: list[ProbeScore]
    surveys: list[Survey]
    trainings: list[Training]
    warnings: list[str]
    problems: list[str]

    @classmethod
    def read(cls, folder: Path | str) -> RunRecord:
        """Read the run in `folder`.

        Raises:
            ArtifactError: if there is no readable `run.json`
        """
        return _Reader(Path(folder)).record()


class _Reader:
    """Collects what can be read of one run, and what cannot."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self.run = _run_file(folder / "run.json")

    def record(self) -> RunRecord:
        run = self.run
        stages = [stage for entry in run.get("stages") or [] if (stage := self._stage(entry))]
        return RunRecord(
            folder=self.folder,
            name=str(run.get("name", self.folder.resolve().name)),
            command=str(run.get("command", "")),
            seed=run.get("seed"),
            started=str(run.get("started", "")),
            finished=str(run.get("finished", "")),
            seconds=float(run.get("seconds") or 0.0),
            store=str(run.get("store", "")),
            versions=run.get("versions") or {},
            machine=run.get("machine") or {},
            plugins=run.get("plugins") or [],
            config=self._config(),
            stages=stages,
            scores=[score for stage in stages if stage.kind == "evaluate" for score in self._scores(stage)],
            surveys=[found for stage in stages if stage.kind == "survey" for found in self._survey(stage)],
            trainings=[Training.read(stage.name, stage.folder) for stage in stages if Training.in_folder(stage.folder)],
            warnings=_all_warnings(run, stages),
            problems=self.problems,
        )

    def _stage(self, entry: Any) -> Stage | None:
        try:
            folder = self.folder / entry["artifact"]
            return Stage(
                name=str(entry["name"]),
                kind=str(entry["kind"]),
                key=str(entry.get("key", "")),
                artifact=str(entry["artifact"]),
                folder=folder,
                reused=bool(entry.get("reused", False)),
                seconds=float(entry.get("seconds") or 0.0),
                inputs=dict(entry.get("inputs") or {}),
                card=self._json(f"stage `{entry['name']}`", folder / "card.json") or {},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.problems.append(f"run.json: a stage cannot be read ({error!r})")
            return None

    def _scores(self, stage: Stage) -> list[ProbeScore]:
        found = self._json(f"stage `{stage.name}`", stage.folder / "scores.json") or {"scores": []}
        try:
            return [_score(stage, found, entry) for entry in found["scores"]]
        except (KeyError, TypeError, ValueError) as error:
            self.problems.append(f"stage `{stage.name}`: scores.json is not as expected ({error!r})")
            return []

    def _survey(self, stage: Stage) -> list[Survey]:
        found = self._json(f"stage `{stage.name}`", stage.folder / "survey.json")
        if not found:
            return []
        return [
            Survey(
                corpus=str(found.get("corpus", stage.name)),
                clips=found.get("clips") or {},
                hours=found.get("hours") or {},
                bad=found.get("bad") or {},
                bad_files=read_lines(stage.folder / "bad_files.jsonl"),
                fingerprint=str(found.get("fingerprint", "")),
                card=found.get("card") or {},
            )
        ]

    def _config(self) -> str:
        path = self.folder / "experiment.yaml"
        return path.read_text("utf-8", errors="replace") if path.is_file() else ""

    def _json(self, what: str, path: Path) -> dict[str, Any] | None:
        try:
            found = json.loads(path.read_text("utf-8"))
        except OSError:
            self.problems.append(f"{what}: {path.name} is missing")
        except ValueError as error:
            self.problems.append(f"{what}: {path.name} is damaged ({error})")
        else:
            if isinstance(found, dict):
                return found
            self.problems.append(f"{what}: {path.name} holds no mapping")
        return None


def _run_file(path: Path) -> dict[str, Any]:
    try:
        run = json.loads(path.read_text("utf-8"))
    except OSError:
        raise ArtifactError(f"`{path.parent}` must be the folder of a run, but holds no `{path.name}`") from None
    except ValueError as error:
        raise ArtifactError(f"`{path}` must be JSON, but is damaged: {error}") from None
    if not isinstance(run, dict):
        raise ArtifactError(f"`{path}` must hold a mapping, but holds a {type(run).__name__}")
    return run


def _score(stage: Stage, found: Mapping[str, Any], entry: Mapping[str, Any]) -> ProbeScore:
    return ProbeScore(
        task=str(found["task"]),
        corpus=str(found["corpus"]),
        subject=str(found["subject"]),
        view=str(entry["view"]),
        metric=str(entry["metric"]),
        value=_share(entry["value"]),
        low=_share(entry.get("low")),
        high=_share(entry.get("high")),
        clips=int(entry.get("clips") or 0),
        chosen=entry.get("chosen") or {},
        others=_figures(entry.get("others")),
        folds=_figures(entry.get("folds")),
        stage=stage,
    )


def _figures(found: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: float(value) for name, value in dict(found or {}).items()}


def _share(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _all_warnings(run: Mapping[str, Any], stages: list[Stage]) -> list[str]:
    said = [str(text) for text in run.get("warnings") or []]
    of_stages = [(stage.name, str(text)) for stage in stages for text in stage.card.get("warnings") or []]
    said += [f"{name}: {text}" for name, text in of_stages if text not in said]
    return list(dict.fromkeys(said))
