"""Masked token prediction: BEATs' pre-training objective (arXiv 2212.09058, section 3.3).

Notable choices:

- The loss covers only hidden patches.
- If a tokenizer gives a patch several tokens, each has a separate classifier. Loss, accuracy and token statistics are
  means over these classifiers (USM, arXiv 2303.01037).
- The tokenizer stays outside the module tree, because it is frozen and must not be checkpointed or wrapped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from einops import rearrange
from torch import Tensor, nn

from ...core.data import PatchBatch
from ...core.interfaces import Encoder, ObjectiveOutput, Tokenizer
from ...tokenizers.code_usage import collapse, counted, entropy, perplexity
from ...training.objective_extras import SupportsArrays, SupportsHistograms, SupportsWarnings
from .level_guess import LevelGuess
from .masked import MaskedObjective
from .objective_config import MaskedPredictionConfig

PLATEAU_MARGIN = 0.5
"""A training has left its first plateau when its loss is this much below that of a guess from the level, in nats.

On `gm_notes`, 400 steps on tokens that contain the level end 0.46 below it with a masked accuracy of 17 %. The 1,200
steps of `beats/tiny` end 0.72 below it, with an encoder that is better than an untrained one.
"""
PLATEAU_PROGRESS = 0.9
"""Share of the training after which the plateau is reported."""


class MaskedPrediction(MaskedObjective, SupportsHistograms, SupportsWarnings, SupportsArrays):
    """Predict the tokens of hidden patches from the visible ones.

    Args:
        encoder: the encoder to pre-train
        tokenizer: the frozen tokenizer
        bands: patches per time column, for `LevelGuess`
    """

    config: MaskedPredictionConfig
    metric_names: Sequence[str] = ("masked_accuracy", "level_guess_loss")

    def __init__(self, config: MaskedPredictionConfig, encoder: Encoder, tokenizer: Tokenizer, bands: int = 1) -> None:
        super().__init__(config, encoder)
        self._frozen = (tokenizer.eval().requires_grad_(False),)
        self.to_tokens = nn.Linear(self.width, tokenizer.streams * tokenizer.codebook_size)
        self.level_guess = LevelGuess(bands, tokenizer.streams, tokenizer.codebook_size)

    @property
    def tokenizer(self) -> Tokenizer:
        return self._frozen[0]

    @property
    def histogram_sizes(self) -> Mapping[str, int]:
        """The histogram sizes. Streams of tokens have separate counts, one after the other."""
        size = self.tokenizer.streams * self.tokenizer.codebook_size
        return {"tokens": size, "predictions": size}

    def forward(self, batch: PatchBatch) -> ObjectiveOutput:
        all_tokens = self.tokenizer.tokenize(batch).by_stream  # (B, N, G)
        hidden, logits = self._predict(batch)
        tokens = all_tokens[hidden]  # (hidden patches, G)
        loss = nn.functional.cross_entropy(
            logits.float().flatten(0, 1),
            tokens.flatten(),
            reduction="sum",
            label_smoothing=self.config.label_smoothing,
        )
        guessed = self.level_guess(batch, all_tokens, hidden, label_smoothing=self.config.label_smoothing)
        predictions = logits.argmax(-1)
        size = self.tokenizer.codebook_size
        return ObjectiveOutput(
            loss=loss / self.tokenizer.streams,
            count=max(1, len(tokens)),
            metrics={
                "masked_accuracy": ((predictions == tokens).sum(), torch.tensor(float(tokens.numel()))),
                "level_guess_loss": (guessed, torch.tensor(float(len(tokens)))),
            },
            histograms={"tokens": counted(tokens, size), "predictions": counted(predictions, size)},
        )

    def _predict(self, batch: PatchBatch) -> tuple[Tensor, Tensor]:
        """Return `hidden`, (B, N) bool, and the logits of the hidden patches, (hidden patches, G, K)."""
        predicted = self.predict(batch)
        return predicted.hidden, rearrange(
            self.to_tokens(predicted.vectors), "m (g k) -> m g k", k=self.tokenizer.codebook_size
        )

    def summarise(self, histograms: Mapping[str, Tensor]) -> Mapping[str, float]:
        streams = self.tokenizer.streams
        tokens = histograms["tokens"].double().chunk(streams)
        smoothing = self.config.label_smoothing
        guesses = [counts * (1 - smoothing) + smoothing * counts.mean() for counts in tokens]
        return {
            "token_entropy": fmean(map(entropy, tokens)),
            "guessing_loss": fmean(map(entropy, guesses)),
            "token_perplexity": fmean(map(perplexity, tokens)),
            "tokens_used": fmean(int((counts > 0).sum()) for counts in tokens),
            "predicted_perplexity": fmean(map(perplexity, histograms["predictions"].chunk(streams))),
        }

    def warnings(self, metrics: Mapping[str, float], progress: float) -> Sequence[str]:
        found = collapse(metrics["token_perplexity"], self.tokenizer.codebook_size)
        if progress > 0.5 and metrics["predicted_perplexity"] < 1.5 <= metrics["token_perplexity"]:
            found.append(
                "the predictions have collapsed: nearly all are the same token; try a longer warm-up or a lower lr"
            )
        elif progress > PLATEAU_PROGRESS and metrics["loss"] > metrics["level_guess_loss"] - PLATEAU_MARGIN:
            found.append(
                f"the training is still on its first plateau: the loss {metrics['loss']:.2f} is not clearly below "
                f"{metrics['level_guess_loss']:.2f}, the loss of guessing tokens from level and frequency band, so an "
                "untrained encoder may be as good; set `steps` at least three times higher, or try an `lr` two times "
                "higher or lower"
            )
        if progress > 0.5 and metrics["loss"] > metrics["guessing_loss"]:
            found.append(
                f"nothing is learnt: the loss {metrics['loss']:.2f} is above {metrics['guessing_loss']:.2f}, the loss "
                f"of guessing by the frequencies of tokens; try a longer warm-up or another lr"
            )
        return found

    @torch.no_grad()
    def arrays(self, batch: PatchBatch) -> Mapping[str, Tensor]:
        hidden, logits = self._predict(batch)
        predicted = torch.full(batch.valid.shape, -1, device=batch.valid.device)
        predicted[hidden] = logits[:, 0].argmax(-1)
        return {"tokens": self.tokenizer.tokenize(batch).by_stream[..., 0], "hidden": hidden, "predicted": predicted}
