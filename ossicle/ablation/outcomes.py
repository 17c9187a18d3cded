"""The results of an ablation: the run of each cell, with the scores and costs of its judged encoder.

Notable choices:

- `judging` chooses the encoder of a cell. The view is the one with the best score on the validation clips.
- A cell that cannot be read is reported, and the others are compared.
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
    """A variant. A gain must exceed that of the controls."""

    name: str
    control: bool
    overrides: Sequence[str]


@dataclass(frozen=True)
class Cost:
    """The cost of an encoder, including its tokenizer and teachers, even if another cell made them.

    Attributes:
        seconds: wall-clock time of the stages
        audio_hours: audio that the trainings processed
        parameters: number of parameters of the encoder
    """

    seconds: float
    audio_hours: float
    parameters: int


@dataclass(frozen=True)
class Cell:
    """One variant with one seed.

    Attributes:
        run: folder of the run, relative to the folder of the ablation
        record: None unless the cell is done and can be read
        subject: the encoder that is judged; empty if there is none
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
        """The name that is shown to users."""
        return f"{self.variant}, seed {self.seed}"

    def score(self, metric: str) -> ProbeScore | None:
        """Return the score of the judged encoder, in the view chosen on the validation clips.

        Args:
            metric: task/corpus/measure
        """
        question, _, measure = metric.rpartition("/")
        views = [one for one in self._scores() if f"{one.task}/{one.corpus}" == question]
        score = best_view(views)
        return score if score and (measure == score.metric or measure in score.others) else None

    def tokens(self) -> TokenFigures | None:
        """Return the figures of the tokens that the judged encoder was trained on."""
        found = self.record.tokens if self.record else []
        return next((one for one in found if one.subject == self.subject), None)

    def cost(self) -> Cost | None:
        """Return the cost of the judged encoder."""
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
        """Return the pre-training of the judged encoder."""
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
        about: content of `ablation.json`
        problems: messages about what could not be read
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
                f"`{folder / 'ablation.json'}` is not as expected ({error!r}); run the ablation again to rewrite it"
            ) from None
        return found

    @property
    def name(self) -> str:
        """The name of the ablation."""
        return str(self.about["name"])

    @property
    def baseline(self) -> str:
        """The variant that the others are compared with."""
        return str(self.about["baseline"])

    @property
    def metrics(self) -> list[str]:
        """The metrics as task/corpus/measure. The first decides."""
        return [str(self.about["metric"]), *map(str, self.about.get("secondary") or [])]

    def variant(self, name: str) -> Variant:
        """Return the variant called `name`."""
        return next(one for one in self.variants if one.name == name)

    def of(self, variant: str) -> list[Cell]:
        """List the readable cells of a variant, in the order of their seeds."""
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
    """List a stage and all its direct and indirect inputs, without duplicates."""

    def walk(one: Stage) -> Iterator[Stage]:
        yield one
        for name in one.inputs.values():
            if name in stages:
                yield from walk(stages[name])

    return list({one.name: one for one in walk(stage)}.values())
