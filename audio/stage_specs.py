"""The stage that looks a corpus over; importable without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.choices import PartChoice
from ..core.stages import Stage

if TYPE_CHECKING:
    from ..core.experiment import Experiment


def survey_stage(experiment: Experiment, corpus: PartChoice) -> Stage:
    """Find a corpus's bad recordings; on the experiment's own corpus, measure the front end's statistics too."""
    own = corpus == experiment.corpus
    corpus_name = experiment.corpus_display_name(corpus)
    return Stage(
        name=f"{corpus_name}/survey",
        kind="survey",
        action="ossicle.audio.survey_stage:run_survey",
        settings={
            "corpus": corpus,
            "front_end": experiment.front_end,
            "statistics_of": experiment.pretrain.splits if own else (),
            "max_bad_share": experiment.max_bad_share,
        },
        labels={"corpus": corpus_name},
    )
