"""What an ablation's YAML may say. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, field_validator

from ..core.choices import ChoiceOf, PartChoice
from ..core.config import Config
from ..core.experiment import naming_a_folder

MEASURES: Final[Mapping[bool, tuple[str, ...]]] = {False: ("accuracy", "UAR"), True: ("mAP",)}
"""The measures whose errors can be told, of corpora whose clips carry one label (False) and several (True)."""
Seed = Annotated[int, Field(ge=0)]
Filter = dict[str, Any]


class CompareConfig(Config):
    """What the variants are compared by."""

    metric: str
    """What decides: `task/corpus/measure`, such as `linear_probe/gm_notes/accuracy`."""

    baseline: str
    """The variant that all others are held against."""

    secondary: tuple[str, ...] = ()
    """Further metrics, written alike, that are reported beside it."""

    encoder: str | None = None
    """The encoder of each cell that is judged; the last one that is no control when absent."""

    @field_validator("metric")
    @classmethod
    def _metric_of_three(cls, value: str) -> str:
        return _of_three(value)

    @field_validator("secondary")
    @classmethod
    def _secondary_of_three(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_of_three, value))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metric that decides, and the others."""
        return (self.metric, *self.secondary)


class StudyConfig(Config):
    """An ablation: variants of one experiment, each run with several seeds."""

    name: str
    """Names the folder of its results: letters, digits, `.`, `_` and `-`. The file's name when absent."""

    base: Any
    """The experiment to vary: a file, a preset, a list of them, or an experiment written here."""

    vary: dict[str, Any] = Field(min_length=1)
    """Axes by name; all combinations are run. An axis has named variants, each a patch of dotted paths on the base, or
    is itself a dotted path with a list of values, which name the variants. A patch with `control: true` makes a
    control: what it gains too is not the gain of the part under study."""

    seeds: tuple[Seed, ...] = Field((0,), min_length=1)
    """The seeds that every variant is run with."""

    only: tuple[Filter, ...] = ()
    """Run a cell only if it fits one of these: axis to a variant or a list of them; `seed` counts as an axis."""

    except_: tuple[Filter, ...] = Field((), alias="except")
    """Leave out the cells that fit one of these."""

    compare: CompareConfig
    """What the variants are compared by."""

    launcher: Annotated[PartChoice, ChoiceOf("launcher")] | None = None
    """Where cells run; `local` when absent."""

    _folder = field_validator("name")(naming_a_folder)

    @field_validator("seeds")
    @classmethod
    def _different(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"must be different seeds, but are {', '.join(map(str, value))}")
        return value


def _of_three(metric: str) -> str:
    if metric.count("/") < 2 or not all(metric.split("/")):
        raise ValueError(
            f"must name a task, a corpus and a measure, such as `linear_probe/gm_notes/accuracy`, but is `{metric}`"
        )
    return metric
