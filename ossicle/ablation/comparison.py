"""Which variant is better, by how much, and whether that can be believed.

Notable choices: the metric named first decides, and the others are told beside it; each metric's p-values are corrected
for the number of variants (Holm), controls apart, so that nobody pays for having them; a variant that lies above the
baseline but not above every control has gained nothing by what was varied; without a second seed nothing can be told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal, get_args

from ..core.errors import ArtifactError
from ..core.wording import choices
from ..report.formats import count, points
from ..report.paired import Predictions, read_predictions, same_clips
from .outcomes import Ablation, Cell
from .record import DONE

if TYPE_CHECKING:
    from .statistics import Contrast, Estimate, Sample

Word = Literal["better", "no gain", "cannot tell", "worse"]
ONE_SEED = "one seed cannot tell a gain from luck"


@dataclass(frozen=True)
class Verdict:
    """What may be said of a variant against the baseline.

    Attributes:
        control: whether the variant is a control
        contrast: its difference from the baseline; None where they share no seed
        p: corrected for the number of variants; NaN without a contrast
        reached_by: the controls that it is not shown to exceed, where it exceeds the baseline
        reason: why nothing can be told; empty where something can
    """

    variant: str
    control: bool
    word: Word
    contrast: Contrast | None
    p: float
    reached_by: Sequence[str] = ()
    reason: str = ""

    @property
    def note(self) -> str:
        """What the word leaves unsaid."""
        return f"not shown to exceed {_listed(self.reached_by)}" if self.reached_by else self.reason


@dataclass(frozen=True)
class MetricComparison:
    """The variants under one metric.

    Attributes:
        metric: task/corpus/measure
        clips: test clips that all were judged on
        estimates: of every variant that was judged, the baseline among them
        verdicts: of every variant but the baseline
        detectable: the difference that half of the comparisons could have found, each with a probability of 0.8 and
            after the correction for their number; NaN if unknown
    """

    metric: str
    clips: int
    estimates: list[Estimate]
    verdicts: list[Verdict]
    detectable: float

    @property
    def measure(self) -> str:
        """The measure alone."""
        return self.metric.rpartition("/")[2]

    @property
    def question(self) -> str:
        """Task and corpus in words."""
        task, _, corpus = self.metric.rpartition("/")[0].rpartition("/")
        return f"{task} on {corpus}"

    @property
    def basis(self) -> str:
        """What means and intervals are over."""
        numbers = sorted({len(estimate.of_seeds) for estimate in self.estimates})
        seeds = count(numbers[0], "seed") if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} seeds"
        over = "both" if all(estimate.seeds_known for estimate in self.estimates) else "clips alone"
        return f"{seeds} and {count(self.clips, 'test clip')}, 95 % intervals over {over}"

    def verdict(self, variant: str) -> Verdict | None:
        """The verdict on a variant; None for the baseline."""
        return next((one for one in self.verdicts if one.variant == variant), None)


@dataclass(frozen=True)
class Comparison:
    """An ablation's findings.

    Attributes:
        found: for each metric, the one that decides first
        problems: what could not be read or compared
    """

    ablation: Ablation
    found: list[MetricComparison]
    problems: list[str]

    @property
    def decisive(self) -> MetricComparison:
        """The metric that decides."""
        return self.found[0]

    @property
    def headline(self) -> str:
        """The outcome in a few sentences."""
        sentences = [*_findings(self), *_caveats(self)]
        return " ".join(f"{text[:1].upper()}{text[1:]}." for text in sentences)


def compare(folder: Path | str) -> Comparison:
    """Compare the variants of the ablation in `folder`.

    Raises:
        ArtifactError: if there is no ablation, or nothing in it was judged by the metric that decides
    """
    ablation = Ablation.read(folder)
    problems = list(ablation.problems)
    undone = [cell.title for cell in ablation.cells if cell.state != DONE]
    if undone:
        problems.append(f"not done, and so not compared: {'; '.join(undone)}")
    found = [_under(metric, ablation, problems) for metric in ablation.metrics]
    if found[0] is None:
        raise ArtifactError("\n".join([f"no cell of `{folder}` can be judged by {ablation.metrics[0]}", *problems]))
    return Comparison(ablation, [one for one in found if one], list(dict.fromkeys(problems)))


def _under(metric: str, ablation: Ablation, problems: list[str]) -> MetricComparison | None:
    from .statistics import MEASURES, Run, Sample

    measure = metric.rpartition("/")[2]
    if measure not in MEASURES:
        problems.append(f"{metric}: no error can be told for `{measure}`. {choices(measure, list(MEASURES))}")
        return None
    predicted = _alike(metric, ablation, problems)
    if not predicted:
        return None
    runs = [Run(cell.variant, cell.seed, found.truth, found.scores) for cell, found in predicted]
    sample = Sample(runs, measure)
    names = [variant.name for variant in ablation.variants if variant.name in sample.variants]
    verdicts = _verdicts(sample, ablation, [name for name in names if name != ablation.baseline])
    tested = [one.contrast for one in verdicts if one.contrast and not one.control]
    bars = [contrast.detectable(len(tested)) for contrast in tested]
    return MetricComparison(
        metric, sample.clips, [sample.estimate(name) for name in names], verdicts, median(bars) if bars else math.nan
    )


def _alike(metric: str, ablation: Ablation, problems: list[str]) -> list[tuple[Cell, Predictions]]:
    """The predictions of every cell that was judged on the same clips as the first one; the baseline comes first."""
    found: list[tuple[Cell, Predictions]] = []
    done = [cell for cell in ablation.cells if cell.record and cell.subject]
    for cell in sorted(done, key=lambda cell: cell.variant != ablation.baseline):
        score = cell.score(metric)
        predictions = read_predictions(score) if score else None
        if predictions is None:
            what = "its predictions are gone" if score else "it was not judged by it"
            problems.append(f"{cell.title}: left out of {metric}, for {what}")
        elif found and not same_clips(found[0][1], predictions):
            problems.append(f"{cell.title}: left out of {metric}, for it was judged on other clips")
        elif len(predictions.clips) < 2:
            problems.append(f"{cell.title}: left out of {metric}, for one clip says nothing")
        else:
            found.append((cell, predictions))
    return found


def _verdicts(sample: Sample, ablation: Ablation, names: Sequence[str]) -> list[Verdict]:
    from .statistics import LEVEL, holm

    held = ablation.baseline in sample.variants
    contrasts = {name: sample.contrast(name, ablation.baseline) if held else None for name in names}
    controls = [name for name in names if ablation.variant(name).control]
    corrected: dict[str, float] = {}
    for family in (controls, [name for name in names if name not in controls]):
        tested = {name: contrast.p for name in family if (contrast := contrasts[name])}
        corrected |= zip(tested, holm(list(tested.values())), strict=True)
    found = []
    for name in names:
        contrast, p = contrasts[name], corrected.get(name, math.nan)
        word, reason = _word(contrast, p, LEVEL)
        reached = []
        if word == "better" and name not in controls:
            reached = [control for control in controls if not _exceeds(sample.contrast(name, control), LEVEL)]
        word = "no gain" if reached else word
        found.append(Verdict(name, name in controls, word, contrast, p, reached, reason))
    return found


def _word(contrast: Contrast | None, p: float, level: float) -> tuple[Word, str]:
    if contrast is None:
        return "cannot tell", "it shares no seed with the baseline"
    if not contrast.seeds_known:
        return "cannot tell", ONE_SEED
    if p >= level:
        return "cannot tell", ""
    return ("better" if contrast.value > 0 else "worse"), ""


def _exceeds(contrast: Contrast | None, level: float) -> bool:
    return contrast is not None and contrast.value > 0 and contrast.p < level


def _findings(comparison: Comparison) -> list[str]:
    """What is better, what a control reaches, what is worse, and what cannot be told."""
    decisive, baseline = comparison.decisive, comparison.ablation.baseline
    ours = [one for one in decisive.verdicts if not one.control]
    if not ours:
        return [f"no variant can be held against {baseline}"]
    groups = {word: [one for one in ours if one.word == word] for word in get_args(Word)}
    where = f"better than {baseline} in {decisive.question}"
    sentences = [
        f"{where}: {_with_points(groups['better'])}" if groups["better"] else f"no variant is shown to be {where}"
    ]
    sentences += _without_gain(groups["no gain"])
    sentences += [f"worse: {_with_points(groups['worse'])}"] if groups["worse"] else []
    unsure = [one.variant for one in groups["cannot tell"]]
    return [*sentences, f"cannot tell: {_listed(unsure)}"] if unsure else sentences


def _without_gain(verdicts: Sequence[Verdict]) -> list[str]:
    """One sentence for all variants that the same controls reach."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for one in verdicts:
        alike.setdefault(tuple(one.reached_by), []).append(one.variant)
    return [
        f"{_listed(variants)} {'lies' if len(variants) == 1 else 'lie'} above it, but not demonstrably above "
        f"{_listed(controls)}: no gain that can be put down to what was varied"
        for controls, variants in alike.items()
    ]


def _with_points(verdicts: Sequence[Verdict]) -> str:
    return _listed([f"{one.variant} ({points(one.contrast.value)})" for one in verdicts if one.contrast])


def _caveats(comparison: Comparison) -> list[str]:
    """What the findings hang on."""
    decisive = comparison.decisive
    ours = [one for one in decisive.verdicts if not one.control]
    said = []
    if ours and all(one.reason == ONE_SEED for one in ours):
        said.append(f"{ONE_SEED}: add seeds")
    elif any(one.word == "cannot tell" for one in ours) and math.isfinite(decisive.detectable):
        said.append(
            f"a difference of {points(decisive.detectable).lstrip('+')} would have been found four times in five"
        )
    if any(one.word == "better" for one in ours) and not any(one.control for one in decisive.verdicts):
        said.append("without a control it is open what a gain comes from")
    return said


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
