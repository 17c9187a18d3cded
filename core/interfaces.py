"""The interfaces of parts. Everything that an experiment can replace implements one of these classes.

The first constructor argument of a part is its typed configuration. Further arguments are matched by name with what the
experiment offers (`patch_dim`, `bands`, `encoder`, `tokenizer`, …), so a part declares only what it needs.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .config import InputNormalization
from .data import AudioBatch, Encoded, PatchBatch, SpectrogramBatch, TokenBatch, VisiblePatches
from .errors import PluginError

_building = threading.local()


@contextmanager
def building_with(seed: int) -> Iterator[None]:
    """Build parts inside this block reproducibly: `seed` drives torch's generator and `Tokenizer.seeded_normal`.

    The state of the global generator is restored afterwards.
    """
    previous = getattr(_building, "seed", 0)
    _building.seed = seed
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        _building.seed = previous


class LayeredModule(nn.Module):
    """A stack of layers of one shape, called one after the other.

    Training can compile each layer (`compile`), or compute it again for the backward pass (`gradient_checkpointing`).
    Therefore `forward` of a layer must return the same when it is called again, and must not change any state.

    Attributes:
        layers: the layers
    """

    layers: nn.ModuleList


class FrontEnd(nn.Module, ABC):
    """From waveforms to patches of a normalised spectrogram.

    A front end works in two steps, so that the first one can run clip by clip in the data pipeline. `transform`
    computes the time-frequency frames of one clip. `patches` normalises a batch of frames and cuts it into patches. The
    statistics for the normalisation are buffers, so every artifact includes them.

    Attributes:
        sample_rate: sample rate of the input waveforms, in Hz
        bands: patches per time column
        patch_dim: numbers per patch
        hop_seconds: time from one frame to the next
        min_samples: length of the shortest waveform that gives a frame; shorter ones are zero-padded to it
        revision: increased by the author when the same configuration gives different numbers
        brings_statistics: whether it has statistics already, so that those of the corpus are not adopted
    """

    sample_rate: int
    bands: int
    patch_dim: int
    hop_seconds: float
    min_samples: int
    revision: int = 1
    brings_statistics: bool = False

    @property
    @abstractmethod
    def transform(self) -> Callable[[Tensor], Tensor]:
        """A function from one clip's waveform, (S,) with `min_samples` or more, to its frames, (T, F) float32.

        Several threads call it at once. It must have no state and must not use torch's global generator.
        """

    @property
    def frames_key(self) -> Hashable | None:
        """The settings that determine the frames of `transform`, the key of a cache in memory.

        Two front ends of one class with equal keys must give equal frames for equal waveforms at one sample rate. None,
        the default, disables the cache. Use it if frames depend on the statistics or on random numbers.
        """
        return None

    @abstractmethod
    def patches(self, batch: SpectrogramBatch) -> PatchBatch:
        """Normalise frames and cut them into patches. A clip gives the same patches alone and in a batch."""

    @abstractmethod
    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Adopt the statistics of a corpus, each (F,): mean and standard deviation of every mel bin."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a text that is equal for two front ends exactly if they give the same numbers."""

    @abstractmethod
    def column_times(self, columns: int) -> Tensor:
        """Return start and end of each time column in seconds: (columns, 2) float64."""

    @abstractmethod
    def band_edges(self) -> Tensor:
        """Return lower and upper edge of each frequency band in Hz: (bands, 2) float64."""

    def spectrogram(self, waveform: Tensor, *, transform: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Compute the frames of one clip: (S,) float32 to (T, F) float32.

        Args:
            transform: the value of the property `transform`, to create it once for many clips
        """
        missing = self.min_samples - waveform.shape[0]
        return (transform or self.transform)(nn.functional.pad(waveform, (0, missing)) if missing > 0 else waveform)

    def forward(self, batch: AudioBatch) -> PatchBatch:
        """Cut waveforms into patches, using only the real samples of each clip."""
        transform = self.transform
        frames = [
            self.spectrogram(wave[:length], transform=transform)
            for wave, length in zip(batch.waveform, batch.lengths.tolist(), strict=True)
        ]
        lengths = torch.tensor([clip.shape[0] for clip in frames], device=batch.waveform.device)
        padded = nn.utils.rnn.pad_sequence(frames, batch_first=True)  # (B, T, F)
        return self.patches(SpectrogramBatch(padded, lengths, batch.lengths))


class Tokenizer(nn.Module, ABC):
    """From patches to tokens.

    A tokenizer is frozen from a seed, fitted to a stream of patches (override `fit`), or trained through an objective
    (named by its configuration, a `TokenizerConfig`). The schedule adds the stage that it needs.

    Args:
        codebook_size: K, the number of different tokens
        streams: G, the tokens of a patch, each from a separate codebook of K codes

    Attributes:
        seed: drives its random initial values
        input_normalization: how it normalises its input, from its `TokenizerConfig`

    Raises:
        PluginError: if `codebook_size` or `streams` is below 1
    """

    def __init__(self, codebook_size: int, streams: int = 1) -> None:
        super().__init__()
        if codebook_size < 1 or streams < 1:
            name, given = ("codebook_size", codebook_size) if codebook_size < 1 else ("streams", streams)
            raise PluginError(f"`{name}` must be at least 1, but is {given}")
        self.codebook_size = codebook_size
        self.streams = streams
        self.seed: int = getattr(_building, "seed", 0)
        self.input_normalization: InputNormalization = "none"
        self._draws = 0

    @abstractmethod
    def forward(self, batch: PatchBatch) -> Tensor:
        """Tokenize every patch, padding included: (B, N) int64 in [0, K), or (B, N, G) if G is above 1.

        Args:
            batch: the output of `input_of`
        """

    def input_of(self, batch: PatchBatch) -> PatchBatch:
        """Normalise a batch as `input_normalization` says, for `forward` and `fit`.

        Override it in a tokenizer that passes its input to a teacher, which needs the encoder's input.
        """
        if self.input_normalization == "none":
            return batch
        return batch.normalized(deviation=self.input_normalization == "clip")

    def fit(self, batches: Iterable[PatchBatch]) -> None:
        """Learn from one pass over a corpus. Override it in a tokenizer that is fitted.

        Args:
            batches: outputs of `input_of` on this tokenizer's device, the shortest clips first
        """
        raise NotImplementedError

    @property
    def is_fitted(self) -> bool:
        """Whether this kind of tokenizer learns by `fit`."""
        return type(self).fit is not Tokenizer.fit

    def seeded_normal(self, *shape: int) -> Tensor:
        """Draw standard normal numbers that depend only on the experiment's seed and on the order of the draws."""
        generator = torch.Generator().manual_seed((self.seed << 16) + self._draws)
        self._draws += 1
        return torch.randn(shape, generator=generator)

    @torch.no_grad()
    def tokenize(self, batch: PatchBatch) -> TokenBatch:
        """Tokenize a batch, and check the tokens.

        Raises:
            PluginError: if the tokens have another shape or type than (B, N) or (B, N, G) int64, or lie outside [0, K)
        """
        with torch.autocast(batch.patches.device.type, enabled=False):
            ids = self(self.input_of(batch))
        name = type(self).__name__
        shape = (*batch.valid.shape, self.streams)[: 2 if self.streams == 1 else 3]
        if not isinstance(ids, Tensor) or ids.shape != shape or ids.dtype != torch.int64:
            given = f"{tuple(ids.shape)} {ids.dtype}" if isinstance(ids, Tensor) else type(ids).__name__
            raise PluginError(f"tokenizer `{name}` must give {shape} int64 tokens, but gave {given}")
        if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= self.codebook_size):
            raise PluginError(
                f"tokenizer `{name}` has `codebook_size` {self.codebook_size}, "
                f"but gave tokens from {int(ids.min())} to {int(ids.max())}"
            )
        return TokenBatch(ids, batch.valid)


class Encoder(nn.Module, ABC):
    """From patches to vectors. Padding never changes the output for a real patch.

    Attributes:
        width: D, the size of each output vector
    """

    width: int

    @abstractmethod
    def forward(self, batch: PatchBatch, *, visible: VisiblePatches | None = None, layers: bool = False) -> Encoded:
        """Encode all patches, or only the visible ones, each at its true position in the grid.

        Args:
            visible: the visible patches; all valid ones when None
            layers: also return the input of the first layer and the output of every layer
        """

    def depths(self) -> Sequence[Sequence[nn.Module]]:
        """Group the modules by depth from the stem to the last layer, for layer-wise learning rates.

        Each parameter is in exactly one depth. By default there is a single depth.
        """
        return [[self]]


class Head(nn.Module, ABC):
    """From an encoder's vectors to one logit per class.

    Attributes:
        classes: number of classes
    """

    classes: int

    @abstractmethod
    def forward(self, encoded: Encoded) -> Tensor:
        """Compute the logits of whole clips: (B, classes). Padding never changes them."""

    def patch_logits(self, encoded: Encoded) -> Tensor:
        """Compute the logits of every patch: (B, N, classes). Only heads that classify single patches have them.

        Raises:
            PluginError: if this head does not
        """
        raise PluginError(f"head `{type(self).__name__}` has no logits of single patches: use `head: linear`")


class Optimizer(ABC):
    """Builds the optimizer of a training."""

    @abstractmethod
    def build(self, objective: Objective, *, lr: float) -> torch.optim.Optimizer:
        """Build an optimizer of the parameters in `training.objective_extras.parameter_groups(objective)`.

        Args:
            lr: peak learning rate, to be multiplied by the `lr_scale` of a group
        """


class LrSchedule(ABC):
    """Builds the learning-rate schedule of a training."""

    @abstractmethod
    def build(
        self, optimizer: torch.optim.Optimizer, *, steps: int, warmup_steps: int
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Build a schedule whose peaks are the current learning rates of the optimizer.

        Args:
            steps: all steps, warm-up included
            warmup_steps: steps over which the learning rate rises linearly from 0
        """


@dataclass
class ObjectiveOutput:
    """The loss and the figures of one batch.

    Attributes:
        loss: scalar, summed over the `count` predictions
        count: the number of predictions that `loss` sums over; gradients are divided by it over all ranks
        metrics: further figures, each (sum, count), reported as sum / count over ranks and steps; the names are those
            of `Objective.metric_names`
        histograms: counts per code, (K,) each, summed over ranks and steps (`objective_extras.SupportsHistograms`)
    """

    loss: Tensor
    count: int
    metrics: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    histograms: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module, ABC):
    """The loss that is minimised. An objective owns the modules that it trains, and returns them after training.

    `training/objective_extras.py` lists further methods that an objective may have: to augment clips, start from data,
    group parameters, choose what FSDP2 splits, count codes, warn, and show pictures in the report.

    Attributes:
        metric_names: figures that `forward` reports besides the loss
    """

    metric_names: Sequence[str] = ()

    @abstractmethod
    def forward(self, batch: PatchBatch) -> ObjectiveOutput:
        """Compute the loss of a batch.

        Draw random numbers from torch's global generator, or derive them from `batch.draws`, which makes them
        independent of the number of processes. With several processes, each loss must use every trained parameter.
        """

    @abstractmethod
    def parts(self) -> Mapping[str, nn.Module]:
        """Return the modules to store after training, by role: `encoder`, `tokenizer`, `head`."""
