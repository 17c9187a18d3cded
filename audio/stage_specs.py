"""The stage that surveys a corpus, importable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.choices import PartChoice
from ..core.stages import CorpusStage

if TYPE_CHECKING:
    from ..core.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class SurveyStage(CorpusStage):
    """Find a corpus's bad recordings, and measure the front end's statistics.

    Attributes:
        statistics_of: the splits that the front end's statistics are measured on; none if they are not needed
        max_bad_share: share of the recordings that may be bad before the stage fails
    """

    kind = "survey"
    revision = 2
    action = "ossicle.audio.survey_stage:run_survey"
    is_survey = True

    front_end: PartChoice
    statistics_of: tuple[str, ...]
    max_bad_share: float


def survey_stage(experiment: Experiment, corpus: PartChoice) -> SurveyStage:
    """Survey a corpus; the front end's statistics are measured on the experiment's own corpus only."""
    label = experiment.corpus_display_name(corpus)
    return SurveyStage(
        name=f"{label}/survey",
        corpus=corpus,
        front_end=experiment.front_end,
        statistics_of=experiment.pretrain.splits if corpus == experiment.corpus else (),
        max_bad_share=experiment.max_bad_share,
        tags={"corpus": label},
    )
