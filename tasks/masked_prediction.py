"""Masked label prediction: BEATs' pre-training objective (arXiv 2212.09058, section 3.3).

Notable choices: only visible patches enter the encoder, each at its true place; the label predictor is a stack of the
same layers, thrown away afterwards; the loss is taken on hidden patches only. The tokenizer stays outside the module
tree, because it is frozen and must not be checkpointed or wrapped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..core.data import Encoded, PatchBatch
from ..core.interfaces import Encoder, Objective, ObjectiveOutput, Tokenizer
from ..encoders.layers import TransformerStack
from ..encoders.vit import sine_cosine
from .codes import collapse, entropy, perplexity
from .masking import uniform_mask
from .objective_settings import MaskedPredictionConfig


class MaskedPrediction(Objective):
    """Predict the labels of hidden patches from the visible ones.

    Args:
        encoder: what is pre-trained
        tokenizer: gives the labels; frozen
    """

    metric_names: Sequence[str] = ("masked_accuracy",)

    def __init__(self, config: MaskedPredictionConfig, encoder: Encoder, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self._frozen = (tokenizer.eval().requires_grad_(False),)
        stack = config.predictor.stack(encoder.width)
        width = stack.width
        self.to_predictor = nn.Linear(encoder.width, width) if width != encoder.width else nn.Identity()
        self.mask_embedding = nn.Parameter(torch.randn(width) * 0.02)
        self.predictor = TransformerStack(stack)
        self.to_labels = nn.Linear(width, tokenizer.codebook_size)

    @property
    def tokenizer(self) -> Tokenizer:
        return self._frozen[0]

    @property
    def histogram_sizes(self) -> Mapping[str, int]:
        return {"labels": self.tokenizer.codebook_size, "predictions": self.tokenizer.codebook_size}

    def parts(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}

    def forward(self, batch: PatchBatch) -> ObjectiveOutput:
        tokens = self.tokenizer.tokenize(batch).ids
        hidden, logits = self._predict(batch)
        labels = tokens[hidden]  # (hidden patches,)
        loss = nn.functional.cross_entropy(
            logits.float(), labels, reduction="sum", label_smoothing=self.config.label_smoothing
        )
        predictions = logits.argmax(-1)
        count = torch.tensor(float(len(labels)))
        size = self.tokenizer.codebook_size
        return ObjectiveOutput(
            loss=loss,
            count=max(1, len(labels)),
            metrics={"masked_accuracy": ((predictions == labels).sum(), count)},
            histograms={
                "labels": torch.bincount(labels, minlength=size),
                "predictions": torch.bincount(predictions, minlength=size),
            },
        )

    def _predict(self, batch: PatchBatch) -> tuple[Tensor, Tensor]:
        """Give `hidden`, (B, N) bool, and the logits of the hidden patches, (hidden patches, K)."""
        visible, hidden = uniform_mask(batch.valid, self.config.mask_ratio, batch.draws)
        encoded: Encoded = self.encoder(batch, visible=visible)
        seen = self.to_predictor(encoded.sequence)  # (B, V, W)
        places = visible.index.unsqueeze(-1).expand_as(seen)
        sequence = self.mask_embedding.to(seen.dtype).expand(*batch.valid.shape, -1)
        # Padding of `visible` points at place 0, so it is sent past the end and cut off again.
        places = torch.where(visible.valid.unsqueeze(-1), places, batch.valid.shape[1])
        sequence = nn.functional.pad(sequence, (0, 0, 0, 1)).scatter(1, places, seen)[:, :-1]  # (B, N, W)
        if self.config.predictor.positions == "absolute":
            sequence = sequence + sine_cosine(batch.grid, sequence.shape[-1]).to(sequence)
        predicted, _ = self.predictor(sequence, valid=batch.valid)
        return hidden, self.to_labels(predicted[hidden])

    def summarise(self, histograms: Mapping[str, Tensor]) -> Mapping[str, float]:
        labels = histograms["labels"].double()
        smoothing = self.config.label_smoothing * labels.mean()
        return {
            "label_entropy": entropy(labels),
            "guessing_loss": entropy(labels * (1 - self.config.label_smoothing) + smoothing),
            "label_perplexity": perplexity(labels),
            "labels_used": int((histograms["labels"] > 0).sum()),
            "predicted_perplexity": perplexity(histograms["predictions"]),
        }

    def warnings(self, metrics: Mapping[str, float], progress: float) -> Sequence[str]:
        found = collapse(metrics["label_perplexity"], self.tokenizer.codebook_size)
        if progress > 0.5 and metrics["predicted_perplexity"] < 1.5 <= metrics["label_perplexity"]:
            found.append("the predictions have collapsed: nearly all are one label; try a longer warm-up or a lower lr")
        if progress > 0.5 and metrics["loss"] > metrics["guessing_loss"]:
            found.append(
                f"nothing is learnt: the loss {metrics['loss']:.2f} is above {metrics['guessing_loss']:.2f}, what "
                f"guessing by the labels' frequencies costs; try a longer warm-up or another lr"
            )
        return found

    @torch.no_grad()
    def arrays(self, batch: PatchBatch) -> Mapping[str, Tensor]:
        hidden, logits = self._predict(batch)
        predicted = torch.full(batch.valid.shape, -1, device=batch.valid.device)
        predicted[hidden] = logits.argmax(-1)
        return {"tokens": self.tokenizer.tokenize(batch).ids, "hidden": hidden, "predicted": predicted}
