"""A whole tokenizer in one file: `plugins: [./sign_hash.py]`, then `tokenizer: {type: sign_hash, bits: 9}`."""

import torch

import ossicle


class SignHashConfig(ossicle.TokenizerConfig):
    bits: int = 9
    """Random hyperplanes; the codebook has 2 ** bits codes."""


@ossicle.tokenizer("sign_hash")
class SignHash(ossicle.Tokenizer):
    """Hash a patch by the sides of random hyperplanes that it lies on (Charikar, 2002)."""

    def __init__(self, config: SignHashConfig, patch_dim: int) -> None:
        super().__init__(codebook_size=2**config.bits)
        self.register_buffer("planes", self.seeded_normal(patch_dim, config.bits))

    def forward(self, batch: ossicle.PatchBatch) -> torch.Tensor:  # (B, N) int64
        bits = (batch.patches @ self.planes > 0).long()  # (B, N, bits)
        return (bits << torch.arange(bits.shape[-1], device=bits.device)).sum(-1)
