"""A whole experiment as typed values, and the way to it from a YAML file.

Notable choices: the plugins that a file names are loaded before the rest is read, for they bring parts; all problems of
a file are raised at once, in the order of its lines.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, ValidationInfo, field_validator

from .choices import (
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

Beta: TypeAlias = Annotated[float, Field(ge=0, lt=1)]


def naming_a_folder(name: str) -> str:
    """Give a name back.

    Raises:
        ValueError: if it is not fit for the name of a folder
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"must be letters, digits, `.`, `_` and `-`, for it names a folder, but is `{name}`")
    return name


class TrainingConfig(Config):
    """How one stage of training runs, whatever it trains."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {"log_every", "checkpoint_every", "threads", "parallel", "compile", "gradient_checkpointing"}
    )

    steps: int = Field(gt=0)
    """Updates of the weights."""
    batch_seconds: float = Field(128.0, gt=0)
    """Audio in a batch over all devices, in seconds."""
    lr: float = Field(5e-4, gt=0)
    """Highest learning rate, reached after the warm-up."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the learning rate rises from 0; part of `steps`."""
    weight_decay: float = Field(0.01, ge=0)
    """Weight decay of AdamW."""
    betas: tuple[Beta, Beta] = (0.9, 0.98)
    """Decay rates of AdamW's running means of the gradient and of its square."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Longer gradients are shortened to this norm; empty for no limit."""
    crop_seconds: float = Field(10.0, gt=0)
    """Longest stretch of a clip that is used at once, in seconds; longer clips are cropped at random."""
    splits: tuple[Literal["train", "valid", "test", "unlabelled"], ...] = Field(("train", "unlabelled"), min_length=1)
    """The corpus's splits that are trained on."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of the forward and backward pass; weights stay in fp32."""
    log_every: int = Field(10, gt=0)
    """Steps between two lines of metrics."""
    checkpoint_every: int = Field(200, gt=0)
    """Steps between two checkpoints; a multiple of `log_every`."""
    threads: int | None = Field(None, gt=0)
    """Threads that torch computes with on a CPU; all cores when absent. Small models run faster on one, beside the
    thread that decodes."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """What several processes share out: clips alone (`ddp`), or also weights and what the optimiser keeps of them
    (`fsdp`: FSDP2, for models that fill a device). It does not decide the result, nor does one process heed it."""

    compile: bool = False
    """Whether torch compiles the layers: it takes a minute or more at the start, and pays in long trainings on an
    accelerator."""
    gradient_checkpointing: bool = False
    """Whether each layer is computed anew for the backward pass, instead of keeping what it needs there: far less
    memory, for another forward pass."""

    def shortened(self, *, steps: int, clips: int) -> Self:
        """The same training for a few steps, each of a few clips of the greatest length, to try it out."""
        changes = {
            "steps": steps,
            "warmup_steps": min(1, self.warmup_steps),
            # Rounding makes clips a little longer.
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
    """How an encoder is pre-trained."""

    incidental: ClassVar[frozenset[str]] = TrainingConfig.incidental | {"watch", "watch_every"}

    objective: ObjectiveChoice
    """What the encoder learns from."""
    watch: TaskChoice | None = None
    """Evaluates the encoder's frozen features during training, such as `knn_probe`. Sees only training and validation
    clips, and changes nothing. A task that lists its own stages cannot do this."""
    watch_every: int = Field(500, gt=0)
    """Steps between two such judgements; a multiple of `log_every`."""

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
    """Everything that decides the result of an experiment."""

    name: str
    """Names the folder of its runs: letters, digits, `.`, `_` and `-`."""
    plugins: tuple[str, ...] = ()
    """Python files that bring parts of their own; `./my_tokenizer.py` lies beside the YAML."""
    seed: int = Field(0, ge=0)
    """Drives all that is random."""
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
    """What the encoder is judged on."""
    max_bad_share: float = Field(0.05, ge=0, le=1)
    """Share of a corpus's files that may be unreadable before the run stops."""

    _folder = field_validator("name")(naming_a_folder)

    def corpus_display_name(self, corpus: PartChoice) -> str:
        """What people call a corpus of this experiment: its display name, numbered from the second of that name."""
        name = corpus.display_name
        corpora = (choice for _, choice in parts_of(self) if choice.kind == "corpus")
        same_name = list(dict.fromkeys(choice for choice in corpora if choice.display_name == name))
        number = same_name.index(corpus) + 1 if corpus in same_name else 1
        return name if number == 1 else f"{name} {number}"
