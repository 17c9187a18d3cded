"""A whole experiment as typed values."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, ValidationInfo, field_validator

from .choices import (
    ChoiceOf,
    CorpusChoice,
    EncoderChoice,
    FrontEndChoice,
    ObjectiveChoice,
    PartChoice,
    ScheduleChoice,
    TaskChoice,
    parts_of,
)
from .config import Config
from .task import lists_own_stages
from .wording import choices

LrScheduleChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("lr_schedule")]
OptimizerChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("optimizer")]


def naming_a_folder(name: str) -> str:
    """Return a name after checking it.

    Raises:
        ValueError: if it cannot be the name of a folder
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"must be letters, digits, `.`, `_` and `-`, because it names a folder, but is `{name}`")
    return name


class TrainingConfig(Config):
    """Settings of one training stage."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {"log_every", "checkpoint_every", "threads", "parallel", "compile", "gradient_checkpointing"}
    )

    steps: int = Field(gt=0)
    """Updates of the weights."""
    batch_seconds: float = Field(128.0, gt=0)
    """Audio in a batch over all devices, in seconds."""
    lr: float = Field(5e-4, gt=0)
    """Peak learning rate, reached after the warm-up."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the learning rate rises from 0; part of `steps`."""
    lr_schedule: LrScheduleChoice | None = None
    """How the learning rate changes after the warm-up. By default it decays linearly to 0, as with `polynomial`."""
    optimizer: OptimizerChoice | None = None
    """How gradients change the weights. By default `adamw`."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Gradients are clipped to this norm. Empty for no clipping."""
    crop_seconds: float = Field(10.0, gt=0)
    """Longest part of a clip that is used at once, in seconds. Longer clips are cropped at random."""
    splits: tuple[Literal["train", "valid", "test", "unlabelled"], ...] = Field(("train", "unlabelled"), min_length=1)
    """Splits of the corpus to train on."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of the forward and backward pass; weights stay in fp32."""
    log_every: int = Field(10, gt=0)
    """Steps between two lines of metrics."""
    checkpoint_every: int = Field(200, gt=0)
    """Steps between two checkpoints; a multiple of `log_every`."""
    threads: int | None = Field(None, gt=0)
    """Number of torch threads on a CPU. By default all cores. Small models run faster with one, next to the thread that
    decodes."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """What several processes share: only clips (`ddp`), or also weights and optimiser state (`fsdp`: FSDP2, for models
    that do not fit on a device). It does not change the result. Ignored in single-process runs."""

    compile: bool = False
    """Whether torch compiles the layers. This takes a minute or more at the start, and pays in long trainings on an
    accelerator."""
    gradient_checkpointing: bool = False
    """Whether each layer is computed again for the backward pass instead of storing its activations: far less memory
    for another forward pass."""

    def shortened(self, *, steps: int, clips: int) -> Self:
        """Return a copy for trying the training: few steps of few clips of the greatest length."""
        changes = {
            "steps": steps,
            "warmup_steps": min(1, self.warmup_steps),
            # Rounding can make clips a little longer.
            "batch_seconds": clips * (self.crop_seconds + 0.1),
            "log_every": 1,
            "checkpoint_every": steps,
        }
        return self.model_copy(update=changes)

    @field_validator("warmup_steps")
    @classmethod
    def _within_steps(cls, value: int, info: ValidationInfo) -> int:
        steps = info.data.get("steps", value + 1)
        if value >= steps:
            raise ValueError(f"must be less than `steps` ({steps}), but is {value}")
        return value

    @field_validator("checkpoint_every")
    @classmethod
    def _with_a_log_line(cls, value: int, info: ValidationInfo) -> int:
        log_every = info.data.get("log_every", 1)
        if value % log_every:
            raise ValueError(f"must be a multiple of `log_every` ({log_every}), but is {value}")
        return value


class PretrainConfig(TrainingConfig):
    """Settings of pre-training."""

    incidental: ClassVar[frozenset[str]] = TrainingConfig.incidental | {"watch", "watch_every"}

    objective: ObjectiveChoice
    """What the encoder learns from."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Weight of the old value in an exponential moving average of the encoder's weights. The average is the result of
    the pre-training. By default, the last weights are."""
    watch: TaskChoice | None = None
    """Evaluates the encoder's frozen features during training, such as `knn_probe`. Sees only training and validation
    clips, and changes nothing. A task that lists its own stages cannot do this."""
    watch_every: int = Field(500, gt=0)
    """Steps between two such evaluations; a multiple of `log_every`."""

    @field_validator("watch")
    @classmethod
    def _watch_frozen_features(cls, value: PartChoice | None) -> PartChoice | None:
        if value is not None and lists_own_stages(value.part.config):
            fitting = [part.name for part in value.part.catalog.parts("task") if not lists_own_stages(part.config)]
            raise ValueError(
                "must be a task that evaluates frozen features, because the encoder is still training, but "
                f"`{value.name}` lists its own stages. {choices('', fitting)}"
            )
        return value

    @field_validator("watch_every")
    @classmethod
    def _watch_with_a_log_line(cls, value: int, info: ValidationInfo) -> int:
        log_every = info.data.get("log_every", 1)
        if info.data.get("watch") is not None and value % log_every:
            raise ValueError(f"must be a multiple of `log_every` ({log_every}), but is {value}")
        return value


class Experiment(Config):
    """Everything that determines the result of an experiment."""

    name: str
    """Name of the folder of its runs: letters, digits, `.`, `_` and `-`."""
    plugins: tuple[str, ...] = ()
    """Python files with further parts. `./my_tokenizer.py` is next to the YAML file."""
    seed: int = Field(0, ge=0)
    """Seed of all random numbers."""
    corpus: CorpusChoice
    """The recordings to learn from."""
    front_end: FrontEndChoice
    """From waveforms to patches."""
    encoder: EncoderChoice
    """From patches to vectors."""
    schedule: ScheduleChoice
    """The order of stages: what is trained after what, and on which tokens."""
    pretrain: PretrainConfig
    """How the encoder is trained in each iteration."""
    evaluate: tuple[TaskChoice, ...] = ()
    """Tasks that evaluate the encoder."""
    max_bad_share: float = Field(0.05, ge=0, le=1)
    """Share of a corpus's files that may be unreadable before the run stops."""

    _folder = field_validator("name")(naming_a_folder)

    def corpus_display_name(self, corpus: PartChoice) -> str:
        """Return the display name of a corpus, numbered from the second corpus of that name on."""
        name = corpus.display_name
        corpora = (choice for _, choice in parts_of(self) if choice.kind == "corpus")
        same_name = list(dict.fromkeys(choice for choice in corpora if choice.display_name == name))
        number = same_name.index(corpus) + 1 if corpus in same_name else 1
        return name if number == 1 else f"{name} {number}"
