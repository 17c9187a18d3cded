"""What an ablation's cells found: each cell's run with the encoder that is judged in it, and its figures.

Notable choices: a cell speaks through the encoder that `judging` says, and through the view that did best on the
validation clips; a cell that cannot be read is named, and the others are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ArtifactError
from ..report.record import ProbeScore, RunRecord, Stage, TokenFigures
from ..report.training import Training
from ..report.verdict import best_view
from .judging import judged
from .record import DONE, read_ablation


@dataclass(frozen=True)
class Variant:
    """One of what is compared; a control shows what a gain must exceed."""

    name: str
    control: bool
    overrides: Sequence[str]


@dataclass(frozen=True)
class Cost:
    """What it took to make an encoder, with the tokenizer and the teachers that it needed, whoever ran them.

    Attributes:
        seconds: of the stages, by the clock
        audio_hours: of audio that trainings went through
        parameters: of the encoder
    """

    seconds: float
    audio_hours: float
    parameters: int


@dataclass(frozen=True)
class Cell:
    """One variant with one seed.

    Attributes:
        run: its folder, relative to the ablation's
        record: None unless it is done and can be read
        subject: the encoder that is judged; empty where there is none
    """

    variant: str
    seed: int
    run: str
    state: str
    error: str | None
    seconds: float
    record: RunRecord | None = None
    subject: str = ""

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.variant}, seed {self.seed}"

    def score(self, metric: str) -> ProbeScore | None:
        """What the judged encoder scored, in the view chosen on the validation clips.

        Args:
            metric: task/corpus/measure
        """
        question, _, measure = metric.rpartition("/")
        views = [one for one in self._scores() if f"{one.task}/{one.corpus}" == question]
        score = best_view(views)
        return score if score and (measure == score.metric or measure in score.others) else None

    def tokens(self) -> TokenFigures | None:
        """What the tokens hold that the judged encoder learnt from."""
        found = self.record.tokens if self.record else []
        return next((one for one in found if one.subject == self.subject), None)

    def cost(self) -> Cost | None:
        """What the judged encoder took."""
        made = self._pretraining()
        if made is None or self.record is None:
            return None
        stages = {stage.name: stage for stage in self.record.stages}
        needed = _with_inputs(made, stages)
        metrics = [stage.card.get("metrics") or {} for stage in needed]
        return Cost(
            seconds=sum(float(stage.card.get("seconds") or stage.seconds) for stage in needed if not stage.is_survey),
            audio_hours=sum(float(found.get("audio_hours") or 0.0) for found in metrics),
            parameters=int((made.card.get("metrics") or {}).get("parameters") or 0),
        )

    def training(self) -> Training | None:
        """The judged encoder's own training."""
        made = self._pretraining()
        found = self.record.trainings if self.record and made else []
        return next((one for one in found if made and one.name == made.name), None)

    def _scores(self) -> list[ProbeScore]:
        return [score for score in self.record.scores if score.subject == self.subject] if self.record else []

    def _pretraining(self) -> Stage | None:
        stages = self.record.stages if self.record else []
        made = [stage for stage in stages if stage.makes_encoder and stage.tags.get("subject") == self.subject]
        return made[-1] if made else None


@dataclass(frozen=True)
class Ablation:
    """An ablation and its cells.

    Attributes:
        about: `ablation.json` as it stands
        metrics: the one that decides first
        problems: what could not be read
    """

    folder: Path
    about: Mapping[str, Any]
    variants: list[Variant]
    cells: list[Cell]
    problems: list[str]

    @classmethod
    def read(cls, folder: Path | str) -> Ablation:
        """Read the ablation in `folder`.

        Raises:
            ArtifactError: if `ablation.json` is missing, damaged or incomplete
        """
        folder = Path(folder)
        about = read_ablation(folder)
        problems: list[str] = []
        try:
            variants = [Variant(one["name"], bool(one.get("control")), one["overrides"]) for one in about["variants"]]
            cells = [_cell(folder, entry, about.get("encoder"), problems) for entry in about["cells"]]
            found = cls(folder, about, variants, cells, problems)
            found.variant(found.baseline)
        except (KeyError, TypeError, AttributeError, StopIteration) as error:
            raise ArtifactError(
                f"`{folder / 'ablation.json'}` is not as expected ({error!r}); run the ablation again to make it anew"
            ) from None
        return found

    @property
    def name(self) -> str:
        """What the ablation is called."""
        return str(self.about["name"])

    @property
    def baseline(self) -> str:
        """The variant that the others are held against."""
        return str(self.about["baseline"])

    @property
    def metrics(self) -> list[str]:
        """As task/corpus/measure; the first decides."""
        return [str(self.about["metric"]), *map(str, self.about.get("secondary") or [])]

    def variant(self, name: str) -> Variant:
        """The variant called `name`."""
        return next(one for one in self.variants if one.name == name)

    def of(self, variant: str) -> list[Cell]:
        """The cells of a variant that can be read, in the order of their seeds."""
        return [cell for cell in self.cells if cell.variant == variant and cell.record]


def _cell(folder: Path, entry: Mapping[str, Any], encoder: str | None, problems: list[str]) -> Cell:
    about = (entry["variant"], int(entry["seed"]), entry["run"], entry["state"], entry.get("error"))
    seconds = float(entry.get("seconds") or 0.0)
    cell = Cell(*about, seconds)
    if cell.state != DONE:
        return cell
    try:
        record = RunRecord.read(folder / cell.run)
    except ArtifactError as error:
        problems.append(f"{cell.title}: {error}")
        return cell
    problems += [f"{cell.title}: {text}" for text in record.problems]
    subject = judged({score.subject: score.role for score in record.scores}, encoder)
    if not subject:
        problems.append(f"{cell.title}: no encoder" + (f" called `{encoder}`" if encoder else "") + " was judged")
    return Cell(*about, seconds, record, subject)


def _with_inputs(stage: Stage, stages: Mapping[str, Stage]) -> list[Stage]:
    """A stage and all that it was made from, each once."""

    def walk(one: Stage) -> Iterator[Stage]:
        yield one
        for name in one.inputs.values():
            if name in stages:
                yield from walk(stages[name])

    return list({one.name: one for one in walk(stage)}.values())
