"""Mean and standard deviation of every mel bin, in one pass."""

from __future__ import annotations

from torch import Tensor


class FrameStatistics:
    """Mean and standard deviation of every mel bin over any number of frames, in one pass and constant memory."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    def add(self, frames: Tensor) -> None:
        """Add frames, (T, F). Sums are merged in float64 (Chan, Golub & LeVeque, 1979)."""
        if not len(frames):
            return
        frames = frames.double()
        mean = frames.mean(0)
        squares = (frames - mean).square().sum(0)
        if self._mean is None or self._squares is None:
            self.count, self._mean, self._squares = len(frames), mean, squares
            return
        total = self.count + len(frames)
        shift = mean - self._mean
        self._squares += squares + shift.square() * (self.count * len(frames) / total)
        self._mean += shift * (len(frames) / total)
        self.count = total

    @property
    def mean(self) -> Tensor:
        """Mean of each bin: (F,) float64."""
        assert self._mean is not None
        return self._mean

    @property
    def std(self) -> Tensor:
        """Standard deviation of each bin without Bessel's correction: (F,) float64."""
        assert self._squares is not None
        return (self._squares / self.count).sqrt()
