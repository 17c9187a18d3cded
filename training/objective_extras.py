"""Optional methods of objectives besides `forward` and `parts`, and their defaults.

An objective that needs one of these methods defines it. It need not register or import anything. Training calls the
methods through the functions below, so each default is in one place.

Notable choices:

- Protocols instead of methods of `Objective`: the base class stays as short as what every author must know.
- The objectives of Ossicle derive from the protocols that they follow, so that mypy checks their signatures.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from ..core.data import PatchBatch, SpectrogramBatch
from ..core.interfaces import Objective


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are trained alike.

    Attributes:
        lr_scale: factor of the learning rate
        decayed: whether weight decay applies
    """

    parameters: Sequence[nn.Parameter]
    lr_scale: float = 1.0
    decayed: bool = True


@runtime_checkable
class SupportsAugment(Protocol):
    """Changes training clips before the front end normalises them."""

    @abstractmethod
    def augment(self, batch: SpectrogramBatch) -> SpectrogramBatch:
        """Return a changed batch. Draw random numbers as `Objective.forward` does."""


@runtime_checkable
class SupportsPrepare(Protocol):
    """Needs data before the first step, to start a codebook for example."""

    @abstractmethod
    def prepare(self, batches: Iterable[PatchBatch]) -> None:
        """Use the first batches of the training stream, as few as needed. All processes get the same ones."""


@runtime_checkable
class SupportsParameterGroups(Protocol):
    """Trains some parameters with another learning rate, or without weight decay."""

    @abstractmethod
    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Return all trained parameters, each in exactly one group."""


@runtime_checkable
class SupportsShards(Protocol):
    """Chooses the modules that FSDP2 shards over processes."""

    @abstractmethod
    def shards(self) -> Sequence[nn.Module]:
        """Return the modules to gather one at a time. None is inside another, and each is called as a whole."""


@runtime_checkable
class SupportsHistograms(Protocol):
    """Counts codes: `ObjectiveOutput.histograms` holds the counts of one batch, (K,) int64 each.

    Counts are summed over ranks and steps. The one called `tokens` becomes `codebook_usage.npz`.
    """

    @property
    @abstractmethod
    def histogram_sizes(self) -> Mapping[str, int]:
        """The name and the number of bins of every histogram."""

    @abstractmethod
    def summarise(self, histograms: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Compute figures to log from the histograms of the last steps."""


@runtime_checkable
class SupportsWarnings(Protocol):
    """Detects a training that fails."""

    @abstractmethod
    def warnings(self, metrics: Mapping[str, float], progress: float) -> Sequence[str]:
        """Return the problems that the metrics of the last steps show, and their remedies.

        A warning is displayed once. Warnings that are equal up to their first colon count as the same.

        Args:
            progress: share of the training that is done, in [0, 1]
        """


@runtime_checkable
class SupportsArrays(Protocol):
    """Shows its tokens, masks or predictions for a few clips in the report."""

    @abstractmethod
    def arrays(self, batch: PatchBatch) -> Mapping[str, Tensor]:
        """Return any of `tokens`, `hidden` and `predicted`, (B, N) each. Of several token streams, return the first."""


def augment(objective: Objective, batch: SpectrogramBatch) -> SpectrogramBatch:
    """Augment a batch of training clips. By default the batch is unchanged."""
    return objective.augment(batch) if isinstance(objective, SupportsAugment) else batch


def may_augment(objective: Callable[..., object]) -> bool:
    """Return whether objectives of a class may augment clips. Other factories may return any objective."""
    return not isinstance(objective, type) or issubclass(objective, SupportsAugment)


def prepare(objective: Objective, batches: Iterable[PatchBatch]) -> None:
    """Let an objective use the first batches. By default it does not use them."""
    if isinstance(objective, SupportsPrepare):
        objective.prepare(batches)


def parameter_groups(objective: Objective) -> Sequence[ParameterGroup]:
    """Return the groups of trained parameters. By default one group contains all that require gradients."""
    if isinstance(objective, SupportsParameterGroups):
        return objective.parameter_groups()
    return [ParameterGroup([parameter for parameter in objective.parameters() if parameter.requires_grad])]


def shards(objective: Objective) -> Sequence[nn.Module]:
    """Return the modules that FSDP2 shards. By default the members of module lists, such as a Transformer's layers."""
    chosen = objective.shards() if isinstance(objective, SupportsShards) else list_members(objective)
    # Averages of weights hold buffers only, which are not split.
    return [module for module in chosen if next(module.parameters(), None) is not None]


def list_members(module: nn.Module) -> Sequence[nn.Module]:
    """Return the members of all lists of modules. Nested lists are replaced by their members."""
    return list(dict.fromkeys(_members(module)))


def _members(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(module, nn.ModuleList) and not isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield child
        else:
            yield from _members(child)


def histogram_sizes(objective: Objective) -> Mapping[str, int]:
    """Return the number of bins of each histogram. By default there are no histograms."""
    return objective.histogram_sizes if isinstance(objective, SupportsHistograms) else {}


def summarise(objective: Objective, histograms: Mapping[str, Tensor]) -> Mapping[str, float]:
    """Compute figures to log from histograms. By default there are none."""
    return objective.summarise(histograms) if isinstance(objective, SupportsHistograms) else {}


def warnings(objective: Objective, metrics: Mapping[str, float], progress: float) -> Sequence[str]:
    """Return the problems that the metrics show. By default there are none."""
    return objective.warnings(metrics, progress) if isinstance(objective, SupportsWarnings) else ()


def arrays(objective: Objective, batch: PatchBatch) -> Mapping[str, Tensor]:
    """Return the arrays of a batch that a report shows. By default there are none."""
    return objective.arrays(batch) if isinstance(objective, SupportsArrays) else {}
