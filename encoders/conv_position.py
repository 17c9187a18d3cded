"""What surrounds a patch, as a convolutional position embedding (BEATs, section 4.2; wav2vec 2.0, section 2).

Notable choices: on a CPU the convolution runs through Fourier transforms, an equal result at a twelfth of the cost
(kernel 128, 16 groups, 96 patches), for there the direct one would take most of a tiny encoder's training step.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .places import put, take


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

    def among_hidden(self, sequence: Tensor, places: Tensor, count: int, *, scale: Tensor) -> Tensor:
        """Embed the positions of visible vectors at their true places, where others are hidden: (B, V, D) to (B, V, D).

        Hidden neighbours are zeros, so the visible ones count `scale` times, as after dropout: what is summed up then
        has the same mean in training as later, when nothing is hidden. A vector itself, always visible, counts once.

        Args:
            places: (B, V) int64 among `count`
            scale: (B,) how many neighbours there are for each visible one
        """
        weight = self._weight()
        factor = scale[:, None, None]
        neighbours = take(self._correlate(put(sequence * factor, places, count), weight), places)
        own = rearrange(weight[..., self.kernel // 2], "(g o) i -> g o i", g=self.groups)
        grouped = rearrange(sequence * (factor - 1), "b v (g i) -> b v g i", g=self.groups)
        surplus = rearrange(torch.einsum("bvgi,goi->bvgo", grouped, own), "b v g o -> b v (g o)")
        return F.gelu(neighbours - surplus + self.bias)

    def _weight(self) -> Tensor:
        return self.gain * self.direction / _tap_norms(self.direction)

    def _correlate(self, sequence: Tensor, weight: Tensor) -> Tensor:
        correlate = correlate_direct if sequence.is_cuda else correlate_fourier
        channels = correlate(rearrange(sequence, "b n d -> b d n"), weight, groups=self.groups)
        return rearrange(channels, "b d n -> b n d")


def correlate_direct(signal: Tensor, weight: Tensor, *, groups: int) -> Tensor:
    """Correlate each group of channels with its kernels, to the signal's own length.

    Tap j of k sees the step j - k // 2 away.

    Args:
        signal: (B, D, N)
        weight: (D, D / groups, k)

    Returns:
        (B, D, N)
    """
    out = F.conv1d(signal, weight, padding=weight.shape[-1] // 2, groups=groups)
    # An even kernel gives one step too many; the released code drops the last.
    return out[..., : signal.shape[-1]]


def correlate_fourier(signal: Tensor, weight: Tensor, *, groups: int) -> Tensor:
    """Do what `correlate_direct` does, by the correlation theorem, in float32 at least."""
    count, half = signal.shape[-1], weight.shape[-1] // 2
    # Zeros after the signal keep what the transform wraps around from reaching it.
    size = _fast_size(max(count + half, weight.shape[-1]))
    dtype = torch.promote_types(signal.dtype, torch.float32)
    signals = torch.fft.rfft(signal.to(dtype), n=size)
    kernels = torch.fft.rfft(weight.to(dtype), n=size).conj()
    # A product of matrices per group and frequency; the copy makes it a fast one.
    signals = rearrange(signals, "b (g i) f -> g f b i", g=groups).contiguous()
    kernels = rearrange(kernels, "(g o) i f -> g f i o", g=groups)
    product = rearrange(signals @ kernels, "g f b o -> b (g o) f")
    # The first tap stands at step 0 of the transform, but sees `half` steps back.
    out = torch.fft.irfft(product, n=size).roll(half, dims=-1)
    result: Tensor = out[..., :count].to(signal.dtype)
    return result


def _tap_norms(weight: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(weight, dim=(0, 1), keepdim=True)
    return norms


def _fast_size(least: int) -> int:
    """Give the next length without prime factors above 5, for which transforms are fast."""
    size = least
    while not _is_smooth(size):
        size += 1
    return size


def _is_smooth(number: int) -> bool:
    for prime in (2, 3, 5):
        while number % prime == 0:
            number //= prime
    return number == 1
