"""The Transformer layers of BEATs, single and stacked.

Notable choices:

- The released code divides by 32 before the softmax. This cancels out and is left out.
- A dropped layer is computed and discarded, so all ranks of a distributed run have gradients for the same parameters.
- In training on a CPU, the backward pass computes the activations of the feed-forward networks again, because they are
  the largest tensors.
- Without DeepNorm, initial weights have the variance 1 / inputs instead of the released code's standard deviation of
  0.02. That constant suits a width of 768. At a width of 128 it is a fifth of what keeps the variance of the
  activations, and pre-training starts several times slower (experiments/SPEEDRUN.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..core.interfaces import LayeredModule
from .attention import attend
from .dropout import Dropout, on_cpu
from .encoder_config import StackConfig
from .positions import BiasGate, RelativeBias


def _swish_glu(x: Tensor) -> Tensor:
    value, gate = x.chunk(2, dim=-1)
    return value * F.silu(gate)


def _gelu_accurate(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _linear(x: Tensor) -> Tensor:
    return x


_ACTIVATIONS: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {
    "gelu": F.gelu,
    "gelu_accurate": _gelu_accurate,
    "relu": F.relu,
    "tanh": torch.tanh,
    "linear": _linear,
    "glu": _swish_glu,
}


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself, or to another one, with an optional gated bias."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.attention_dropout
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, config.width)
        self.gate = BiasGate(config.width // config.heads, config.heads) if config.gated else None

    def forward(
        self, sequence: Tensor, *, padding: Tensor, bias: Tensor | None, memory: Tensor | None = None
    ) -> Tensor:
        """Attend: (B, N, D) to (B, N, D).

        Args:
            padding: (B, 1, 1, M), 0 for visible keys and -inf for padding
            bias: (H, N, M) or (B, H, N, M), added to the logits
            memory: (B, M, D), the keys and values; the sequence itself when None
        """
        seen = sequence if memory is None else memory
        query, key, value = (
            rearrange(project(of), "b n (h d) -> b h n d", h=self.heads)
            for project, of in ((self.query, sequence), (self.key, seen), (self.value, seen))
        )
        gate = self.gate(query) if self.gate is not None and bias is not None else None
        dropout = self.dropout if self.training else 0.0
        attended = attend(query, key, value, padding=padding, bias=bias, gate=gate, dropout=dropout)
        out: Tensor = self.out(rearrange(attended, "b h n d -> b n (h d)"))
        return out


class FeedForward(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.activation = _ACTIVATIONS[config.activation]
        hidden = 2 * config.feed_forward if config.activation == "glu" else config.feed_forward
        self.expand = nn.Linear(config.width, hidden)
        self.contract = nn.Linear(config.feed_forward, config.width)
        self.dropout = Dropout(config.activation_dropout)

    def forward(self, sequence: Tensor) -> Tensor:
        """Transform each vector independently: (B, N, D) to (B, N, D)."""
        hidden = self.expand(sequence)
        out: Tensor
        if torch.is_grad_enabled() and on_cpu(hidden) and not (self.training and self.dropout.p):
            out = _ActivatedLinear.apply(hidden, self.activation, self.contract.weight, self.contract.bias)  # type: ignore[no-untyped-call]
        else:
            out = self.contract(self.dropout(self.activation(hidden)))
        return out


class _ActivatedLinear(torch.autograd.Function):
    """An activation and a linear layer that store only their input for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, activation: Callable[[Tensor], Tensor], weight: Tensor, bias: Tensor
    ) -> Tensor:
        ctx.activation = activation
        ctx.save_for_backward(hidden, weight)
        return F.linear(activation(hidden), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        with torch.enable_grad():  # type: ignore[no-untyped-call]
            hidden = hidden.detach().requires_grad_()
            activated = ctx.activation(hidden)
        (of_hidden,) = torch.autograd.grad(activated, hidden, gradient @ weight.to(gradient.dtype))
        rows = gradient.flatten(0, -2)
        of_weight = rows.mT @ activated.detach().flatten(0, -2)
        return of_hidden, None, of_weight.to(weight.dtype), rows.sum(0).to(weight.dtype)


class TransformerLayer(nn.Module):
    """Attention and a feed-forward network, each with a residual; post-norm, DeepNorm or pre-norm.

    DeepNorm (Wang et al., 2022) scales the residual by (2L)^¼ for L layers.
    """

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.pre_norm = config.norm == "pre"
        self.residual_scale = (2 * config.layers) ** 0.25 if config.deep_norm else 1.0
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.width)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.width)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        sequence: Tensor,
        *,
        padding: Tensor,
        bias: Tensor | None,
        memory: Tensor | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Transform a sequence: (B, N, D) to (B, N, D).

        Args:
            padding, bias, memory: as in `SelfAttention`
            wanted: (M,) int64 among the B · N positions; the output then has only these, (M, D)
        """
        normed = self.attention_norm(sequence) if self.pre_norm else sequence
        attended = self.attention(normed, padding=padding, bias=bias, memory=memory)
        if wanted is not None:
            # The rest of the layer transforms each vector independently.
            sequence, attended = sequence.flatten(0, 1)[wanted], attended.flatten(0, 1)[wanted]
        sequence = self._add(sequence, self.dropout(attended))
        if self.pre_norm:
            return self._add(sequence, self.dropout(self.feed_forward(self.feed_forward_norm(sequence))))
        sequence = self.attention_norm(sequence)
        out: Tensor = self.feed_forward_norm(self._add(sequence, self.dropout(self.feed_forward(sequence))))
        return out

    def _add(self, sequence: Tensor, branch: Tensor) -> Tensor:
        return torch.add(branch, sequence, alpha=self.residual_scale)


class LayerStack(LayeredModule):
    """BEATs layers that share one table of relative biases.

    Post-norm stacks normalise before the first layer, pre-norm stacks after the last one (released code).
    """

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(config.width)
        self.dropout = Dropout(config.dropout)
        self.bias = (
            RelativeBias(config.heads, buckets=config.buckets, max_distance=config.max_distance)
            if config.relative_bias
            else None
        )
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.layers))
        self.layers.apply(_init_by_width_)
        for layer in self.layers:
            assert isinstance(layer, TransformerLayer)
            if config.deep_norm:
                _init_deep_norm_(layer, gain=(8 * config.layers) ** -0.25)
            else:
                _scale_residual_branches_(layer, (2 * config.layers) ** -0.5)

    def through(
        self,
        sequence: Tensor,
        *,
        valid: Tensor,
        bias: Tensor | None,
        memory: Tensor | None = None,
        wanted: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Take a sequence through all layers.

        Args:
            sequence: (B, N, D)
            valid: (B, M) bool, False for padding
            bias, memory: as in `SelfAttention`
            wanted: (B, N) bool, the positions whose output is needed; all when None

        Returns:
            The output, (B, N, D) or (wanted positions, D), and a list with the input of the first layer and the output
            of each layer.
        """
        padding = _padding(valid, sequence.dtype)
        if self.config.norm == "post":
            sequence = self.norm(sequence)
        sequence = self.dropout(sequence)
        kept = [sequence]
        for number, layer in enumerate(self.layers, start=1):
            asked = None
            if wanted is not None and number == len(self.layers):
                asked = wanted.flatten().nonzero()[:, 0]
            after = layer(self._decay(sequence), padding=padding, bias=bias, memory=memory, wanted=asked)
            sequence = self._drop(sequence if asked is None else sequence.flatten(0, 1)[asked], after)
            kept.append(sequence)
        if self.config.norm == "pre":
            sequence = self.norm(sequence)
        return sequence, kept

    def _decay(self, sequence: Tensor) -> Tensor:
        ratio = self.config.gradient_decay
        if ratio == 1.0:
            return sequence
        scaled: Tensor = _ScaleGradient.apply(sequence, ratio)  # type: ignore[no-untyped-call]
        return scaled

    def _drop(self, before: Tensor, after: Tensor) -> Tensor:
        if not self.training or self.config.layer_drop == 0.0:
            return after
        keep = torch.rand((), device=before.device) >= self.config.layer_drop
        return torch.where(keep, after, before)


class TransformerStack(LayerStack):
    """Layers over a sequence that attends to itself."""

    def forward(
        self,
        sequence: Tensor,
        *,
        valid: Tensor,
        positions: Tensor | None = None,
        layers: bool = False,
        wanted: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Transform a sequence.

        Args:
            sequence: (B, N, D)
            valid: (B, N) bool, False for padding
            positions: (B, N) int64, the position of each vector; 0 to N - 1 in every clip when None
            layers: also return the input of the first layer and the output of each layer
            wanted: (B, N) bool, the positions whose output is needed; all when None

        Returns:
            The output, (B, N, D) or (wanted positions, D), and the tensors that `layers` asks for.
        """
        bias = self.bias(sequence.shape[1], positions) if self.bias is not None else None
        sequence, kept = self.through(sequence, valid=valid, bias=bias, wanted=wanted)
        return sequence, kept if layers else []

    def depths(self) -> list[list[nn.Module]]:
        """The modules below the first layer, then those of each layer.

        The table of biases belongs to the first layer, as in the released code.
        """
        depths: list[list[nn.Module]] = [[], *([layer] for layer in self.layers)]
        depths[0 if self.config.norm == "post" else -1].append(self.norm)
        if self.bias is not None:
            depths[1].append(self.bias)
        return depths


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sequence: Tensor, ratio: float) -> Tensor:
        ctx.ratio = ratio
        return sequence.view_as(sequence)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.ratio, None


def _padding(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """Make the additive mask of attention: (B, N) bool to (B, 1, 1, N), -inf at padding.

    A clip without real patches attends to its padding, because a softmax over -inf would give NaN.
    """
    seen = valid | ~valid.any(dim=1, keepdim=True)
    padding = torch.zeros(valid.shape, dtype=dtype, device=valid.device).masked_fill(~seen, float("-inf"))
    return rearrange(padding, "b n -> b 1 1 n")


def _init_by_width_(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        nn.init.zeros_(module.bias)


@torch.no_grad()
def _scale_residual_branches_(layer: TransformerLayer, factor: float) -> None:
    """Scale the output of both branches, so that their sum over all layers keeps its variance (GPT-2, section 2.3)."""
    for linear in (layer.attention.out, layer.feed_forward.contract):
        linear.weight.mul_(factor)


def _init_deep_norm_(layer: TransformerLayer, *, gain: float) -> None:
    """Draw Xavier-normal weights, with a smaller gain on the residual branches (DeepNorm, figure 2)."""
    attention, feed_forward = layer.attention, layer.feed_forward
    for linear in (attention.query, attention.key):
        nn.init.xavier_normal_(linear.weight)
    for linear in (attention.value, attention.out, feed_forward.expand, feed_forward.contract):
        nn.init.xavier_normal_(linear.weight, gain=gain)
