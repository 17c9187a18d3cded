"""Decide which variant is better, by how much, and how certain this is.

Notable choices:

- The first metric decides. The others are reported next to it.
- The p-values of each metric are corrected for the number of variants (Holm). Controls are corrected separately, so
  that adding a control does not weaken the test of a variant.
- A variant that is above the baseline but not above every control is "no gain", because the control has the same gain
  without the change under study.
- With one seed the verdict is "cannot tell".
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
    """The verdict on a variant compared with the baseline.

    Attributes:
        control: whether the variant is a control
        contrast: its difference from the baseline; None if they share no seed
        p: p-value, corrected for the number of variants; NaN without a contrast
        reached_by: the controls that it is not shown to exceed, if it exceeds the baseline
        reason: why there is no verdict; else empty
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
        """An explanation of the word."""
        return f"not shown to exceed {_listed(self.reached_by)}" if self.reached_by else self.reason


@dataclass(frozen=True)
class MetricComparison:
    """The comparison of all variants by one metric.

    Attributes:
        metric: task/corpus/measure
        clips: number of test clips, the same for all
        estimates: one for every scored variant, including the baseline
        verdicts: one for every variant except the baseline
        detectable: the median over the comparisons of the smallest difference that each finds with a probability of
            0.8, after the correction for their number; NaN if unknown
    """

    metric: str
    clips: int
    estimates: list[Estimate]
    verdicts: list[Verdict]
    detectable: float

    @property
    def measure(self) -> str:
        """The measure, the last part of the metric."""
        return self.metric.rpartition("/")[2]

    @property
    def question(self) -> str:
        """The task and the corpus in words."""
        task, _, corpus = self.metric.rpartition("/")[0].rpartition("/")
        return f"{task} on {corpus}"

    @property
    def basis(self) -> str:
        """What means and intervals are computed over."""
        numbers = sorted({len(estimate.of_seeds) for estimate in self.estimates})
        seeds = count(numbers[0], "seed") if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} seeds"
        over = "both" if all(estimate.seeds_known for estimate in self.estimates) else "clips only"
        return f"{seeds} and {count(self.clips, 'test clip')}, 95 % intervals over {over}"

    def verdict(self, variant: str) -> Verdict | None:
        """Return the verdict on a variant, or None for the baseline."""
        return next((one for one in self.verdicts if one.variant == variant), None)


@dataclass(frozen=True)
class Comparison:
    """The findings of an ablation.

    Attributes:
        found: one for each metric, the deciding one first
        problems: messages about what could not be read or compared
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
        ArtifactError: if there is no ablation, or none of its cells has the metric that decides
    """
    ablation = Ablation.read(folder)
    problems = list(ablation.problems)
    undone = [cell.title for cell in ablation.cells if cell.state != DONE]
    if undone:
        problems.append(f"not compared, because they are not done: {'; '.join(undone)}")
    found = [_under(metric, ablation, problems) for metric in ablation.metrics]
    if found[0] is None:
        raise ArtifactError("\n".join([f"no cell of `{folder}` can be judged by {ablation.metrics[0]}", *problems]))
    return Comparison(ablation, [one for one in found if one], list(dict.fromkeys(problems)))


def _under(metric: str, ablation: Ablation, problems: list[str]) -> MetricComparison | None:
    from .statistics import MEASURES, Run, Sample

    measure = metric.rpartition("/")[2]
    if measure not in MEASURES:
        problems.append(f"{metric}: the error of `{measure}` is unknown. {choices(measure, list(MEASURES))}")
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
    """Return the predictions of every cell with the same test clips as the first one. The baseline comes first."""
    found: list[tuple[Cell, Predictions]] = []
    done = [cell for cell in ablation.cells if cell.record and cell.subject]
    for cell in sorted(done, key=lambda cell: cell.variant != ablation.baseline):
        score = cell.score(metric)
        predictions = read_predictions(score) if score else None
        if predictions is None:
            what = "its predictions are missing" if score else "it has no score"
            problems.append(f"{cell.title}: left out of {metric}, because {what}")
        elif found and not same_clips(found[0][1], predictions):
            problems.append(f"{cell.title}: left out of {metric}, because it has other test clips")
        elif len(predictions.clips) < 2:
            problems.append(f"{cell.title}: left out of {metric}, because one clip is not enough")
        else:
            found.append((cell, predictions))
    return found


def _verdicts(sample: Sample, ablation: Ablation, names: Sequence[str]) -> list[Verdict]:
    from .statistics import LEVEL, holm

    has_baseline = ablation.baseline in sample.variants
    contrasts = {name: sample.contrast(name, ablation.baseline) if has_baseline else None for name in names}
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
    """Say what is better, what a control reaches, what is worse, and what is open."""
    decisive, baseline = comparison.decisive, comparison.ablation.baseline
    ours = [one for one in decisive.verdicts if not one.control]
    if not ours:
        return [f"no variant can be compared with {baseline}"]
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
    """Make one sentence for all variants that the same controls reach."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for one in verdicts:
        alike.setdefault(tuple(one.reached_by), []).append(one.variant)
    return [
        f"{_listed(variants)} {'is' if len(variants) == 1 else 'are'} above it, but not shown to be above "
        f"{_listed(controls)}, so the gain cannot be attributed to what varies"
        for controls, variants in alike.items()
    ]


def _with_points(verdicts: Sequence[Verdict]) -> str:
    return _listed([f"{one.variant} ({points(one.contrast.value)})" for one in verdicts if one.contrast])


def _caveats(comparison: Comparison) -> list[str]:
    """Say what limits the findings."""
    decisive = comparison.decisive
    ours = [one for one in decisive.verdicts if not one.control]
    caveats = []
    if ours and all(one.reason == ONE_SEED for one in ours):
        caveats.append(f"{ONE_SEED}: add seeds")
    elif any(one.word == "cannot tell" for one in ours) and math.isfinite(decisive.detectable):
        caveats.append(
            f"this design finds a difference of {points(decisive.detectable).lstrip('+')} four times in five"
        )
    if any(one.word == "better" for one in ours) and not any(one.control for one in decisive.verdicts):
        caveats.append("without a control, the cause of a gain is open")
    return caveats


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
