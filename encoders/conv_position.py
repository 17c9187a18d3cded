"""The convolutional position embedding (BEATs, section 4.2; wav2vec 2.0, section 2).

Notable choices:

- On a CPU the convolution uses Fourier transforms. The result is the same at a twelfth of the cost (kernel 128,
  16 groups, 96 patches). The direct convolution would take most of a tiny encoder's training step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .dropout import on_cpu
from .scatter import gather, scatter


class ConvPosition(nn.Module):
    """Embed positions by a grouped convolution over the sequence.

    The weight of each tap is normalised over both channel axes (weight norm over the last axis).

    Args:
        width: size of each vector
        kernel: width of the convolution, in patches
        groups: groups of the convolution
    """

    def __init__(self, width: int, *, kernel: int, groups: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.groups = groups
        direction = torch.empty(width, width // groups, kernel).normal_(std=math.sqrt(4.0 / (kernel * width)))
        self.direction = nn.Parameter(direction)
        self.gain = nn.Parameter(_tap_norms(direction))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, sequence: Tensor) -> Tensor:
        """Embed positions: (B, N, D) to (B, N, D). Padding must be zero."""
        return F.gelu(self._correlate(sequence, self._weight()) + self.bias)

    def among_hidden(self, sequence: Tensor, positions: Tensor, count: int, *, scale: Tensor) -> Tensor:
        """Embed the true positions of visible vectors among hidden ones: (B, V, D) to (B, V, D).

        Hidden neighbours are zeros, so visible neighbours are multiplied by `scale`, as after dropout. The sums then
        have the same mean in training as in use, when nothing is hidden. The vector itself is always visible and counts
        once.

        Args:
            positions: (B, V) int64 among `count`
            scale: (B,) number of neighbours divided by the number of visible neighbours
        """
        weight = self._weight()
        factor = scale[:, None, None]
        neighbours = gather(self._correlate(scatter(sequence * factor, positions, count), weight), positions)
        own = rearrange(weight[..., self.kernel // 2], "(g o) i -> g o i", g=self.groups)
        grouped = rearrange(sequence * (factor - 1), "b v (g i) -> b v g i", g=self.groups)
        surplus = rearrange(torch.einsum("bvgi,goi->bvgo", grouped, own), "b v g o -> b v (g o)")
        return F.gelu(neighbours - surplus + self.bias)

    def _weight(self) -> Tensor:
        return self.direction * (self.gain / _tap_norms(self.direction))

    def _correlate(self, sequence: Tensor, weight: Tensor) -> Tensor:
        correlate = correlate_fourier if on_cpu(sequence) else correlate_direct
        channels = correlate(rearrange(sequence, "b n d -> b d n"), weight, groups=self.groups)
        return rearrange(channels, "b d n -> b n d")


def correlate_direct(signal: Tensor, weight: Tensor, *, groups: int) -> Tensor:
    """Correlate each group of channels with its kernels. The output is as long as the signal.

    Tap j of k reads the step at distance j - k // 2.

    Args:
        signal: (B, D, N)
        weight: (D, D / groups, k)

    Returns:
        (B, D, N)
    """
    out = F.conv1d(signal, weight, padding=weight.shape[-1] // 2, groups=groups)
    # An even kernel gives one step too many. The released code drops the last one.
    return out[..., : signal.shape[-1]]


def correlate_fourier(signal: Tensor, weight: Tensor, *, groups: int) -> Tensor:
    """Compute `correlate_direct` by the correlation theorem, in float32 or higher precision."""
    dtype = torch.promote_types(signal.dtype, torch.float32)
    by_channel = signal.to(dtype).transpose(0, 1)
    out: Tensor = _Correlation.apply(by_channel, weight.to(dtype), groups)  # type: ignore[no-untyped-call]
    return out.to(signal.dtype).transpose(0, 1)


class _Correlation(torch.autograd.Function):
    """Correlate (D, B, N) with (D, D / groups, k) group by group, because the spectra of one group fit into the caches.

    The backward pass computes the spectra again instead of storing them.
    """

    @staticmethod
    def forward(ctx: Any, signal: Tensor, weight: Tensor, groups: int) -> Tensor:
        ctx.groups = groups
        ctx.save_for_backward(signal, weight)
        spectra = _Spectra(signal, weight)
        out = signal.new_empty(signal.shape)
        for own, kernels, to in _by_group(groups, signal, weight, out):
            # Conjugating the kernels would copy them, and they are larger than the signal.
            product = spectra.back((spectra.of(kernels) @ spectra.of(own).conj()).conj())
            # The first tap is at step 0 of the transform, but reads `half` steps back.
            to.copy_(product.roll(spectra.half, dims=-1)[..., : out.shape[-1]])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        signal, weight = ctx.saved_tensors
        spectra = _Spectra(signal, weight)
        of_signal, of_weight = signal.new_empty(signal.shape), torch.empty_like(weight)
        ahead = F.pad(gradient, (0, spectra.size - gradient.shape[-1])).roll(-spectra.half, dims=-1)
        for own, kernels, given, to, to_kernels in _by_group(ctx.groups, signal, weight, ahead, of_signal, of_weight):
            of_given = spectra.of(given)
            to.copy_(spectra.back(spectra.of(kernels).mT @ of_given)[..., : to.shape[-1]])
            to_kernels.copy_(spectra.back(of_given.conj() @ spectra.of(own).mT)[..., : to_kernels.shape[-1]])
        return of_signal, of_weight, None


class _Spectra:
    """Fourier transforms that are long enough to keep wrapped-around values out of the output."""

    def __init__(self, signal: Tensor, weight: Tensor) -> None:
        self.half = weight.shape[-1] // 2
        self.size = _fast_size(max(signal.shape[-1] + self.half, weight.shape[-1]))

    def of(self, steps: Tensor) -> Tensor:
        """(a, b, steps) to (frequencies, a, b) complex."""
        # Matrix products are fast on contiguous memory.
        spectra: Tensor = rearrange(torch.fft.rfft(steps, n=self.size), "a b f -> f a b").contiguous()
        return spectra

    def back(self, spectra: Tensor) -> Tensor:
        """(frequencies, a, b) complex to (a, b, size)."""
        steps: Tensor = torch.fft.irfft(rearrange(spectra, "f a b -> a b f"), n=self.size)
        return steps


def _by_group(groups: int, *tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    return zip(*(tensor.chunk(groups) for tensor in tensors), strict=True)


def _tap_norms(weight: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(weight, dim=(0, 1), keepdim=True)
    return norms


def _fast_size(least: int) -> int:
    """Find the next multiple of 8 without prime factors above 5. Transforms of such a size are fast."""
    size = -(-least // 8) * 8
    while not _is_smooth(size):
        size += 8
    return size


def _is_smooth(number: int) -> bool:
    for prime in (2, 3, 5):
        while number % prime == 0:
            number //= prime
    return number == 1
