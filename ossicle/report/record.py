"""The results of a run, as a typed read-only view.

Notable choices:

- Only `run.json` must exist. A stage that cannot be read is named in `problems` and left out, so that an incomplete run
  can still be reported.
- Names come from the tags in `run.json`. An artifact may come from another experiment, which used another name for its
  encoder.
- The module `training` reads curves, codebook use and pictures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from ..core.choices import CHECKPOINT
from ..core.errors import ArtifactError
from ..core.stages import FLAGS
from ..core.store import RUN, Artifact
from ..tasks.evaluation.stage_specs import LOG_MEL
from ..tasks.stages.specs import UNTRAINED
from .training import Training, read_lines

PREDICTIONS = "predictions.npz"
Role = Literal["start", "log-mel", "iteration", "control"]
"""The role of an encoder, or of features that replace one, in a report. Iterations start from the start."""


@dataclass(frozen=True)
class Stage:
    """One step of the run.

    Attributes:
        artifact: folder of the artifact as in `run.json`, relative to the run
        folder: the same folder, resolved
        inputs: role to the name of the stage that provides it
        tags: the names in this run of what the stage makes and evaluates
        card: the card of the artifact; empty if it is missing
        is_survey, makes_encoder, learns_labels, measures_tokens, is_evaluation: as in `core.stages.Stage`
    """

    name: str
    kind: str
    key: str
    artifact: str
    folder: Path
    reused: bool
    seconds: float
    inputs: Mapping[str, str]
    tags: Mapping[str, Any]
    card: Mapping[str, Any]
    is_survey: bool = False
    makes_encoder: bool = False
    learns_labels: bool = False
    measures_tokens: bool = False
    is_evaluation: bool = False

    @property
    def subject(self) -> str:
        """The name in this run of the encoder that the stage makes."""
        return str(self.tags.get("subject", self.name))


@dataclass(frozen=True)
class ProbeScore:
    """A score on the test clips of a corpus, with its 95 % interval; shares in [0, 1].

    Attributes:
        others: further metrics of the same clips, without intervals
        folds: the score of each test fold; empty without cross-validation
        stage: the stage that computed the score, with its predictions
        role: the role of the subject in the report
        taught: whether the tokens that the subject was trained on come from a tokenizer with a teacher
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
    role: Role = "iteration"
    taught: bool = False

    @property
    def valid(self) -> float | None:
        """The score on the validation split, which selects the view: `valid`, or `valid_` and the metric's name."""
        value = self.chosen.get("valid", self.chosen.get(f"valid_{self.metric}"))
        return float(value) if isinstance(value, int | float) else None

    @property
    def settings(self) -> dict[str, Any]:
        """The selected settings, without the validation score that selected them."""
        return {name: value for name, value in self.chosen.items() if name not in ("valid", f"valid_{self.metric}")}


@dataclass(frozen=True)
class TokenFigures:
    """Statistics of the tokens of one tokenizer on the training clips of a corpus.

    Attributes:
        subject: the encoder that is trained on these tokens
        codebook_size: number of codes
        used: number of codes that occur
        perplexity: number of equally frequent codes with the same entropy
        label_information: normalised mutual information of token and class, in [0, 1]; None without classes
        label_chance: the same with the classes shuffled over the clips
        position_information, column_information, band_information: of token and position in the grid, time column, band
        clips: number of clips measured
        streams: number of tokens per patch, each with `codebook_size` codes; the other values are means over them
    """

    corpus: str
    subject: str
    codebook_size: int
    used: int
    perplexity: float
    label_information: float | None
    label_chance: float | None
    position_information: float
    column_information: float
    band_information: float
    clips: int
    streams: int = 1
    role: Role = "iteration"

    @property
    def codes(self) -> str:
        """The number of codes, formatted for tables: `1,024`, or `4 × 1,024` for four streams."""
        return (f"{self.streams} × " if self.streams > 1 else "") + f"{self.codebook_size:,}"


def titled(subject: str, role: Role) -> str:
    """Return the name of a subject in tables and figures."""
    return f"{subject} (control)" if role == "control" else subject


@dataclass(frozen=True)
class Survey:
    """The result of the survey of a corpus.

    Attributes:
        clips: split to number of clips
        hours: split to hours of audio
        bad: reason to number of files left out
        damaged: number of files that are used although their decoder reports damage
        bad_files: records with `path`, `reason` and `detail`, for bad and damaged files
        card: the source of the recordings and their licence
    """

    corpus: str
    clips: Mapping[str, int]
    hours: Mapping[str, float]
    bad: Mapping[str, int]
    damaged: int
    bad_files: list[Mapping[str, Any]]
    fingerprint: str
    card: Mapping[str, Any]

    @property
    def counts(self) -> dict[str, int]:
        """Number of listed files by reason."""
        return {**self.bad, **({"damaged but used": self.damaged} if self.damaged else {})}


@dataclass(frozen=True)
class RunRecord:
    """A run and the results of its stages, in the order in which they ran.

    Attributes:
        config: the text of the resolved configuration; empty if it is missing
        scores: baselines first, then the iterations in the order of the schedule, controls last
        tokens: statistics of every tokenizer, in the same order
        warnings: warnings of the run and of every stage, without duplicates
        problems: messages about everything that could not be read
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
    tokens: list[TokenFigures]
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
    """Reads the results of a run, and collects the problems on the way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self.run = read_run(folder)

    def record(self) -> RunRecord:
        run = self.run
        stages = [stage for entry in run.get("stages") or [] if (stage := self._stage(entry))]
        taught = _taught(stages)
        scores = [score for stage in stages if stage.is_evaluation for score in self._scores(stage)]
        scores = [replace(score, taught=score.subject in taught) for score in scores]
        tokens = [found for stage in stages if stage.measures_tokens for found in self._tokens(stage)]
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
            scores=_in_order(scores, stages),
            tokens=_in_order(tokens, stages),
            surveys=[found for stage in stages if stage.is_survey for found in self._survey(stage)],
            trainings=[found for stage in stages for found in self._trainings(stage)],
            warnings=_all_warnings(run, stages),
            problems=list(dict.fromkeys(self.problems)),
        )

    def _stage(self, entry: Any) -> Stage | None:
        try:
            folder = self.folder / entry["artifact"]
            name = str(entry["name"])
            return Stage(
                name=name,
                kind=str(entry["kind"]),
                key=str(entry.get("key", "")),
                artifact=str(entry["artifact"]),
                folder=folder,
                reused=bool(entry.get("reused", False)),
                seconds=float(entry.get("seconds") or 0.0),
                inputs=dict(entry.get("inputs") or {}),
                tags=dict(entry["tags"]),
                card=self._card(name, folder),
                **{flag: flag in entry["flags"] for flag in FLAGS},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.problems.append(f"run.json: a stage cannot be read ({error!r})")
            return None

    def _card(self, name: str, folder: Path) -> Mapping[str, Any]:
        with self._noting(name):
            return Artifact(folder).card
        return {}

    def _trainings(self, stage: Stage) -> list[Training]:
        with self._noting(stage.name):
            return [Training.read(stage.name, stage.folder)] if Training.in_folder(stage.folder) else []
        return []

    def _scores(self, stage: Stage) -> list[ProbeScore]:
        found = self._json(stage, "scores.json") or {"scores": []}
        artifact = Artifact(stage.folder)
        with self._noting(stage.name):
            if artifact.holds(PREDICTIONS):
                artifact.file(PREDICTIONS)
        try:
            return [_score(stage, {**found, **stage.tags}, entry) for entry in found["scores"]]
        except (KeyError, TypeError, ValueError) as error:
            self.problems.append(f"stage `{stage.name}`: scores.json is not as expected ({error!r})")
            return []

    def _tokens(self, stage: Stage) -> list[TokenFigures]:
        found = self._json(stage, "tokens.json")
        if not found:
            return []
        # Older runs have one stream, and `position_information` under its former name.
        former = {"position_information": found["place_information"]} if "place_information" in found else {}
        named = {"streams": 1, **former, **found, **stage.tags}
        try:
            return [TokenFigures(**{one.name: named[one.name] for one in fields(TokenFigures) if one.name != "role"})]
        except KeyError as error:
            self.problems.append(f"stage `{stage.name}`: tokens.json is not as expected ({error!r})")
            return []

    def _survey(self, stage: Stage) -> list[Survey]:
        found = self._json(stage, "survey.json")
        if not found:
            return []
        bad_files: list[Mapping[str, Any]] = []
        with self._noting(stage.name):
            bad_files = read_lines(stage.folder, "bad_files.jsonl")
        return [
            Survey(
                corpus=str(stage.tags.get("corpus", stage.name)),
                clips=found.get("clips") or {},
                hours=found.get("hours") or {},
                bad=found.get("bad") or {},
                damaged=found.get("damaged", 0),
                bad_files=bad_files,
                fingerprint=str(found.get("fingerprint", "")),
                card=found.get("card") or {},
            )
        ]

    def _config(self) -> str:
        path = self.folder / "experiment.yaml"
        return path.read_text("utf-8", errors="replace") if path.is_file() else ""

    def _json(self, stage: Stage, name: str) -> dict[str, Any] | None:
        with self._noting(stage.name):
            found = Artifact(stage.folder).read_json(name)
            if isinstance(found, dict):
                return found
            raise ArtifactError(f"{name} is not a mapping")
        return None

    @contextmanager
    def _noting(self, stage: str) -> Iterator[None]:
        """Record an `ArtifactError` as a problem and continue."""
        try:
            yield
        except ArtifactError as error:
            self.problems.append(f"stage `{stage}`: {error}")


def read_run(folder: Path) -> dict[str, Any]:
    """Read the record of the run in a folder.

    Raises:
        ArtifactError: if `run.json` is missing or damaged, or an older version wrote it
    """
    path = folder / RUN
    try:
        run = json.loads(path.read_text("utf-8"))
    except OSError:
        raise ArtifactError(f"`{folder}` must be the folder of a run, but holds no `{RUN}`") from None
    except ValueError as error:
        raise ArtifactError(f"`{path}` must be JSON, but is damaged: {error}") from None
    if not isinstance(run, dict):
        raise ArtifactError(f"`{path}` must hold a mapping, but holds a {type(run).__name__}")
    complete = [stage for stage in run.get("stages") or [] if isinstance(stage, dict) and "artifact" in stage]
    if not all({"tags", "flags"} <= stage.keys() for stage in complete):
        raise ArtifactError(
            f"`{path}` was written by an older version of Ossicle: run the experiment again with this version, which "
            "reuses finished stages"
        )
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


_Judged = TypeVar("_Judged", bound=ProbeScore | TokenFigures)


def _in_order(found: Iterable[_Judged], stages: Sequence[Stage]) -> list[_Judged]:
    """Give every subject its role and sort by role. Subjects with the same role keep the order of the schedule."""
    trained = {stage.subject: bool(stage.tags.get("control")) for stage in stages if stage.makes_encoder}
    judged = [replace(one, role=role_of(one.subject, control=trained.get(one.subject, False))) for one in found]
    others = [one.subject for one in judged if one.subject not in trained]
    subjects = list(dict.fromkeys([*others, *trained]))
    return sorted(judged, key=lambda one: (get_args(Role).index(one.role), subjects.index(one.subject)))


def _taught(stages: Sequence[Stage]) -> set[str]:
    """Find the encoders whose tokenizer had a teacher."""
    inputs = {stage.name: stage.inputs for stage in stages}
    return {
        stage.subject
        for stage in stages
        if stage.makes_encoder and "teacher" in inputs.get(stage.inputs.get("tokenizer", ""), {})
    }


def role_of(subject: str, *, control: bool) -> Role:
    """Return the role of a subject, from its name and from whether its iteration is a control."""
    if subject in (UNTRAINED, CHECKPOINT):
        return "start"
    if subject.startswith(LOG_MEL):
        return "log-mel"
    return "control" if control else "iteration"


def _figures(found: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: float(value) for name, value in dict(found or {}).items()}


def _share(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _all_warnings(run: Mapping[str, Any], stages: list[Stage]) -> list[str]:
    found = [str(text) for text in run.get("warnings") or []]
    of_stages = [(stage.name, str(text)) for stage in stages for text in stage.card.get("warnings") or []]
    found += [f"{name}: {text}" for name, text in of_stages if text not in found]
    return list(dict.fromkeys(found))
