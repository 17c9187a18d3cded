"""Find the precisions that the device of this process supports at full speed."""

from __future__ import annotations

from ..core.distributed import compute_device


def has_bf16() -> bool:
    """Return whether the device of this process has bf16 instructions. Without them, bf16 is far slower than fp32."""
    import torch

    if compute_device().type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
