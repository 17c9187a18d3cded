"""Self-distillation: how BEATs' later tokenizers learn (arXiv 2212.09058, section 3.2.2).

Notable choices: the estimator belongs to the objective, not to the tokenizer, for it is thrown away; sine-cosine places
are added to its input, so that codes need not spell out where a patch lies; the teacher stays outside the module tree,
because it is frozen and must not be checkpointed or wrapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from ..audio.surveying import FrameStatistics
from ..core.data import Encoded, PatchBatch
from ..core.errors import PluginError
from ..core.interfaces import Encoder, Head, Objective, ObjectiveOutput, Tokenizer
from ..encoders.layers import TransformerStack
from ..encoders.vit import sine_cosine
from ..tokenizers.quantising import QuantisingTokenizer
from .codes import collapse, perplexity
from .objective_settings import DistillationConfig


class Distillation(Objective):
    """Predict a frozen teacher's outputs from the tokenizer's codes.

    Args:
        tokenizer: what learns; a `QuantisingTokenizer`
        teacher: the frozen encoder
        teacher_head: the frozen classifier behind it, when the teacher was fine-tuned

    Raises:
        PluginError: if the tokenizer gives no vectors to learn through, or the teacher lacks what is asked of it
    """

    metric_names: Sequence[str] = ("cosine", "commitment")
    target_mean: Tensor
    target_std: Tensor

    def __init__(
        self, config: DistillationConfig, tokenizer: Tokenizer, teacher: Encoder, teacher_head: Head | None = None
    ) -> None:
        super().__init__()
        if not isinstance(tokenizer, QuantisingTokenizer):
            raise PluginError(f"`distillation` trains a QuantisingTokenizer, but `{type(tokenizer).__name__}` is none")
        if config.target == "hidden":
            target_size = teacher.width
        elif teacher_head is not None:
            target_size = teacher_head.classes
        else:
            raise PluginError(
                "`target: logits` needs a teacher with a classifier: let it be fine-tuned, or set `target: hidden`"
            )
        self.config = config
        self.tokenizer = tokenizer
        self._frozen = (teacher.eval().requires_grad_(False), teacher_head)
        if teacher_head is not None:
            teacher_head.eval().requires_grad_(False)
        stack = config.estimator.stack(teacher.width)
        self.from_codes = nn.Linear(tokenizer.code_dim, stack.width)
        self.estimator = TransformerStack(stack)
        self.to_target = nn.Linear(stack.width, target_size)
        self.register_buffer("target_mean", torch.zeros(target_size))
        self.register_buffer("target_std", torch.ones(target_size))

    @property
    def histogram_sizes(self) -> Mapping[str, int]:
        return {"labels": self.tokenizer.codebook_size}

    def parts(self) -> Mapping[str, nn.Module]:
        return {"tokenizer": self.tokenizer}

    @torch.no_grad()
    def prepare(self, batches: Iterable[PatchBatch]) -> None:
        """Start the tokenizer, and measure the teacher on the batches that it takes for that, or on one."""
        statistics = FrameStatistics()

        def measured() -> Iterator[PatchBatch]:
            for batch in batches:
                target = self._teach(batch)
                statistics.add((target[batch.valid] if target.dim() == 3 else target).float())
                yield batch

        stream = measured()
        self.tokenizer.start(stream)
        if not statistics.count:
            next(stream)
        if self.config.standardise:
            self.target_mean.copy_(statistics.mean)
            self.target_std.copy_(statistics.std.clamp_min(1e-5))

    def forward(self, batch: PatchBatch) -> ObjectiveOutput:
        target = (self._teach(batch) - self.target_mean) / self.target_std  # (B, N, target) or (B, target)
        quantised = self.tokenizer.quantise(batch)
        estimate = self._estimate(quantised.vectors, batch)
        cosine = cosine_similarity(estimate.float(), target.float(), dim=-1)
        count = int(batch.valid.sum())
        if self.config.target == "logits":
            # One target a clip: it counts as much as the clip has patches.
            cosine = cosine[:, None].expand_as(batch.valid)
        cosine = cosine[batch.valid].sum()
        commitment = quantised.commitment[batch.valid].sum()
        number = torch.tensor(float(count))
        return ObjectiveOutput(
            loss=count - cosine + self.config.commitment * commitment,
            count=max(1, count),
            metrics={"cosine": (cosine.detach(), number), "commitment": (commitment.detach(), number)},
            histograms={
                "labels": torch.bincount(quantised.ids[batch.valid], minlength=self.tokenizer.codebook_size),
            },
        )

    @torch.no_grad()
    def _teach(self, batch: PatchBatch) -> Tensor:
        teacher, head = self._frozen
        layer = self.config.teacher_layer
        encoded: Encoded = teacher(batch, layers=layer is not None)
        if self.config.target == "logits":
            assert head is not None
            logits: Tensor = head(encoded)
            return logits
        return encoded.sequence if layer is None else encoded.layers[layer]

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
        labels = histograms["labels"]
        return {"label_perplexity": perplexity(labels), "labels_used": int((labels > 0).sum())}

    def warnings(self, metrics: Mapping[str, float], progress: float) -> Sequence[str]:
        return collapse(metrics["label_perplexity"], self.tokenizer.codebook_size)

    @torch.no_grad()
    def arrays(self, batch: PatchBatch) -> Mapping[str, Tensor]:
        return {"tokens": self.tokenizer.tokenize(batch).ids}
