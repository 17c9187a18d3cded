"""Which precision this process computes in at full speed."""

from __future__ import annotations

from ..core.distributed import compute_device


def has_bf16() -> bool:
    """Whether the device of this process has bf16 instructions; without them, bf16 is far slower than fp32."""
    import torch

    if compute_device().type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
