"""Sums and copies over the processes that train together; nothing happens where there is only one."""

from __future__ import annotations

import torch
from torch import Tensor, distributed


def sum_over_ranks(*tensors: Tensor) -> None:
    """Replace each tensor by its sum over all ranks, in place."""
    if distributed.is_initialized():
        for tensor in tensors:
            distributed.all_reduce(tensor)


def copy_from_first_rank(*tensors: Tensor) -> None:
    """Replace each tensor by the first rank's, in place."""
    if distributed.is_initialized():
        for tensor in tensors:
            distributed.broadcast(tensor, src=0)


def compute_device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
