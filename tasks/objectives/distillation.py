"""Self-distillation: how BEATs' later tokenizers learn (arXiv 2212.09058, section 3.2.2).

Notable choices:

- The estimator belongs to the objective, not to the tokenizer, because it is discarded after training.
- Sine-cosine positions are added to its input, so codes need not encode the position of a patch.
- The teacher is outside the module tree, because it is frozen and must not be checkpointed or wrapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from ...audio.frame_statistics import FrameStatistics
from ...core.data import Encoded, PatchBatch, TokenBatch
from ...core.errors import PluginError
from ...core.interfaces import Encoder, Head, Objective, ObjectiveOutput, Tokenizer
from ...encoders.layers import TransformerStack
from ...encoders.vit import sine_cosine
from ...tokenizers.code_usage import collapse, counted, perplexity
from ...tokenizers.quantiser import QuantisingTokenizer
from ...training.objective_extras import SupportsArrays, SupportsHistograms, SupportsPrepare, SupportsWarnings
from .objective_config import DistillationConfig


class Distillation(Objective, SupportsPrepare, SupportsHistograms, SupportsWarnings, SupportsArrays):
    """Predict a frozen teacher's outputs from the tokenizer's codes.

    Args:
        tokenizer: the `QuantisingTokenizer` to train
        teacher: the frozen encoder
        teacher_head: the frozen classifier of a fine-tuned teacher

    Raises:
        PluginError: if the tokenizer does not return vectors with gradients, or the teacher lacks a layer or a head
    """

    metric_names: Sequence[str] = ("cosine", "commitment")
    target_mean: Tensor
    target_std: Tensor
    target_components: Tensor

    def __init__(
        self, config: DistillationConfig, tokenizer: Tokenizer, teacher: Encoder, teacher_head: Head | None = None
    ) -> None:
        super().__init__()
        if not isinstance(tokenizer, QuantisingTokenizer):
            given = type(tokenizer).__name__
            raise PluginError(f"`distillation` trains a `QuantisingTokenizer`, but `{given}` is not one")
        classes = 0 if teacher_head is None else teacher_head.classes
        _refuse(config, {"teacher_width": teacher.width, "teacher_classes": classes})
        target_size = teacher.width if config.target == "hidden" else classes
        self.config = config
        self.tokenizer = tokenizer
        self._frozen = (teacher.eval().requires_grad_(False), teacher_head)
        if teacher_head is not None:
            teacher_head.eval().requires_grad_(False)
        stack = config.estimator.stack(teacher.width)
        self.from_codes = nn.Linear(tokenizer.code_dim, stack.width)
        self.estimator = TransformerStack(stack)
        components = config.principal_components
        self.to_target = nn.Linear(stack.width, components or target_size)
        self.register_buffer("target_mean", torch.zeros(target_size))
        self.register_buffer("target_std", torch.ones(target_size))
        self.register_buffer("target_components", torch.eye(target_size, components) if components else None)

    @property
    def histogram_sizes(self) -> Mapping[str, int]:
        """The histogram sizes. Streams of tokens have separate counts, one after the other."""
        return {"tokens": self.tokenizer.streams * self.tokenizer.codebook_size}

    def parts(self) -> Mapping[str, nn.Module]:
        return {"tokenizer": self.tokenizer}

    @torch.no_grad()
    def prepare(self, batches: Iterable[PatchBatch]) -> None:
        """Initialise the tokenizer, and measure the statistics of the teacher on the same batches, or on one batch."""
        statistics = FrameStatistics()
        seen: list[Tensor] = []

        def measured() -> Iterator[PatchBatch]:
            for batch in batches:
                target = self._teach(batch)
                vectors = (target[batch.valid] if target.dim() == 3 else target).float()
                statistics.add(vectors)
                if self.config.principal_components:
                    seen.append(vectors)
                yield batch

        stream = measured()
        self.tokenizer.start(map(self.tokenizer.input_of, stream))
        if not statistics.count:
            next(stream)
        if self.config.standardise or self.config.principal_components:
            self.target_mean.copy_(statistics.mean)
        if self.config.standardise:
            self.target_std.copy_(statistics.std.clamp_min(1e-5))
        if self.config.principal_components:
            normalised = (torch.cat(seen) - self.target_mean) / self.target_std
            self.target_components.copy_(_whitening(normalised, self.config.principal_components))

    def forward(self, batch: PatchBatch) -> ObjectiveOutput:
        target = self.target(batch)
        quantised = self.tokenizer.quantise(self.tokenizer.input_of(batch))
        estimate = self._estimate(quantised.vectors, batch)
        cosine = cosine_similarity(estimate.float(), target.float(), dim=-1)
        count = int(batch.valid.sum())
        if self.config.target == "logits":
            # A clip has one target, with the weight of all its patches.
            cosine = cosine[:, None].expand_as(batch.valid)
        cosine = cosine[batch.valid].sum()
        commitment = quantised.commitment[batch.valid].sum()
        number = torch.tensor(float(count))
        ids = TokenBatch(quantised.ids, batch.valid).by_stream[batch.valid]  # (real patches, G)
        return ObjectiveOutput(
            loss=count - cosine + self.config.commitment * commitment,
            count=max(1, count),
            metrics={"cosine": (cosine.detach(), number), "commitment": (commitment.detach(), number)},
            histograms={"tokens": counted(ids, self.tokenizer.codebook_size)},
        )

    @torch.no_grad()
    def target(self, batch: PatchBatch) -> Tensor:
        """Compute the targets: (B, N, T), or (B, T) for logits."""
        target = (self._teach(batch) - self.target_mean) / self.target_std
        return target @ self.target_components if self.config.principal_components else target

    @torch.no_grad()
    def _teach(self, batch: PatchBatch) -> Tensor:
        teacher, head = self._frozen
        layer = self.config.teacher_layer
        encoded: Encoded = teacher(batch, layers=layer is not None)
        if self.config.target != "hidden":
            assert head is not None
            logits: Tensor = head(encoded) if self.config.target == "logits" else head.patch_logits(encoded)
            return logits
        if layer is None:
            return encoded.sequence
        _refuse(self.config, {"teacher_layers": len(encoded.layers) - 1})
        return encoded.layers[layer]

    def _estimate(self, codes: Tensor, batch: PatchBatch) -> Tensor:
        sequence = self.from_codes(codes)
        if self.config.estimator.positions == "absolute":
            sequence = sequence + sine_cosine(batch.grid, sequence.shape[-1]).to(sequence)
        sequence, _ = self.estimator(sequence, valid=batch.valid)
        if self.config.target == "logits":
            real = batch.valid[..., None]
            sequence = sequence.masked_fill(~real, 0.0).sum(1) / real.sum(1).clamp(min=1)
        estimate: Tensor = self.to_target(sequence)
        return estimate

    def summarise(self, histograms: Mapping[str, Tensor]) -> Mapping[str, float]:
        tokens = histograms["tokens"].chunk(self.tokenizer.streams)
        return {
            "token_perplexity": fmean(map(perplexity, tokens)),
            "tokens_used": fmean(int((counts > 0).sum()) for counts in tokens),
        }

    def warnings(self, metrics: Mapping[str, float], progress: float) -> Sequence[str]:
        return collapse(metrics["token_perplexity"], self.tokenizer.codebook_size)

    @torch.no_grad()
    def arrays(self, batch: PatchBatch) -> Mapping[str, Tensor]:
        return {"tokens": self.tokenizer.tokenize(batch).by_stream[..., 0]}


def _refuse(config: DistillationConfig, context: Mapping[str, object]) -> None:
    if problems := config.check_compatibility(context):
        raise PluginError(f"`distillation`: {'; '.join(problems)}")


def _whitening(vectors: Tensor, count: int) -> Tensor:
    """Return the projection to the first principal components with unit variance: (D, count), from (n, D) vectors."""
    variances, directions = torch.linalg.eigh(torch.cov(vectors.T.double(), correction=0))  # ascending
    variances, directions = variances[-count:].flip(0), directions[:, -count:].flip(1)
    # A direction without variance is mapped to zero.
    components: Tensor = directions * torch.where(variances > 1e-8 * variances[0], variances, torch.inf).rsqrt()
    return components
