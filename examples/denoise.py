"""A whole objective in one file: `plugins: [./denoise.py]`, then `pretrain: {objective: {type: denoise}}`."""

import torch

import ossicle


class DenoiseConfig(ossicle.ObjectiveConfig):
    needs_tokenizer = False
    noise: float = 0.5
    """Standard deviation of the noise that is added to patches."""


@ossicle.objective("denoise")
class Denoise(ossicle.Objective):
    """Remove noise from patches (Vincent et al., 2008)."""

    def __init__(self, config: DenoiseConfig, encoder: ossicle.Encoder, patch_dim: int) -> None:
        super().__init__()
        self.noise, self.encoder = config.noise, encoder
        self.to_patch = torch.nn.Linear(encoder.width, patch_dim)

    def forward(self, batch: ossicle.PatchBatch) -> ossicle.ObjectiveOutput:
        noisy = batch.patches + self.noise * torch.randn_like(batch.patches)
        encoded = self.encoder(ossicle.PatchBatch(noisy, batch.valid, batch.grid))
        errors = (self.to_patch(encoded.sequence).float() - batch.patches)[batch.valid].square().mean(-1)
        return ossicle.ObjectiveOutput(loss=errors.sum(), count=len(errors))

    def parts(self) -> dict[str, torch.nn.Module]:
        return {"encoder": self.encoder}
