"""The configuration of an ablation, importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, field_validator

from ..core.choices import ChoiceOf, PartChoice
from ..core.config import Config
from ..core.experiment import naming_a_folder

MEASURES: Final[Mapping[bool, tuple[str, ...]]] = {False: ("accuracy", "UAR"), True: ("mAP",)}
"""The measures with known error, of corpora whose clips have one label (False) or several (True)."""
Seed = Annotated[int, Field(ge=0)]
Filter = dict[str, Any]


class CompareConfig(Config):
    """How the variants are compared."""

    metric: str
    """The metric that decides: `task/corpus/measure`, such as `linear_probe/gm_notes/accuracy`."""

    baseline: str
    """The variant that all others are compared with."""

    secondary: tuple[str, ...] = ()
    """Further metrics in the same form, which are reported but do not decide."""

    encoder: str | None = None
    """The encoder of each cell that is judged. By default, the last one that is not a control."""

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
        """All metrics, the one that decides first."""
        return (self.metric, *self.secondary)


class StudyConfig(Config):
    """An ablation: variants of one experiment, each run with several seeds."""

    name: str
    """Name of the results folder: letters, digits, `.`, `_` and `-`. By default, the name of the file."""

    base: Any
    """The experiment to vary: a file, a preset, a list of these, or an inline experiment."""

    vary: dict[str, Any] = Field(min_length=1)
    """Axes by name. All combinations are run. An axis maps names of variants to patches on the base, each a mapping
    from dotted paths to values. Or its name is a dotted path and it lists values, which also name the variants. A patch
    with `control: true` makes a control: a gain that the control reaches is not attributed to the part under study."""

    seeds: tuple[Seed, ...] = Field((0,), min_length=1)
    """The seeds that every variant is run with."""

    only: tuple[Filter, ...] = ()
    """Run a cell only if it matches one of these filters, which map an axis to a variant or a list of variants. `seed`
    counts as an axis."""

    except_: tuple[Filter, ...] = Field((), alias="except")
    """Leave out the cells that match one of these filters."""

    compare: CompareConfig
    """How the variants are compared."""

    launcher: Annotated[PartChoice, ChoiceOf("launcher")] | None = None
    """Where cells run. By default, `local`."""

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
