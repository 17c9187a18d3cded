"""Write an encoder in the format released with BEATs, so that code written for that format can use it.

Notable choices:

- What the released code cannot compute is refused. One message lists everything that does not fit.
- Statistics of another corpus than AudioSet go into `cfg` as `fbank_mean` and `fbank_std`. OpenBEATs reads them there.
  The released class ignores these entries and takes the statistics as arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..audio.front_end_config import AUDIOSET_MEAN, AUDIOSET_STD
from ..audio.kaldi_fbank import KaldiFbank
from ..core.errors import ArtifactError
from ..core.interfaces import Encoder, FrontEnd, Head
from ..encoders.beats import Beats
from ..encoders.head import LinearHead
from .microsoft import MEL_BINS, NORM_FIRST, PATCH_SIZE, STATISTICS
from .names import SETTINGS, TRAINING_SETTINGS, to_theirs, weight_names


@dataclass(frozen=True)
class Release:
    """A checkpoint in the released format.

    Attributes:
        content: the content to save: `cfg` and `model`, and `label_dict` if the classes have names
        notes: what a user of the file must know
    """

    content: dict[str, Any]
    notes: Sequence[str] = field(default_factory=tuple)


def release_encoder(
    encoder: Encoder,
    front_end: FrontEnd,
    *,
    head: Head | None = None,
    labels: Sequence[str] = (),
    multi_label: bool = True,
) -> Release:
    """Convert an encoder, and optionally its classifier, to the released format.

    Args:
        labels: the names of the classes in the order of the head's outputs
        multi_label: whether a clip can have several classes

    Raises:
        ArtifactError: with everything that the released code cannot express
    """
    problems = [*encoder_problems(encoder), *front_end_problems(front_end)]
    if head is not None and not isinstance(head, LinearHead):
        problems.append(f"its head is a {type(head).__name__}; the released code has only a linear one")
    refuse(problems)
    assert isinstance(encoder, Beats)
    release = release_parts(encoder, front_end)
    release.content["cfg"]["finetuned_model"] = head is not None
    notes = list(release.notes)
    if isinstance(head, LinearHead):
        release.content["cfg"] |= {"predictor_class": head.classes, "predictor_dropout": head.dropout.p}
        release.content["model"] |= {
            f"predictor.{name}": value.detach().cpu().clone() for name, value in head.linear.state_dict().items()
        }
        if labels:
            release.content["label_dict"] = dict(enumerate(labels))
        if not multi_label:
            notes.append("the classes exclude each other, but the released code gives each an independent probability")
    return Release(release.content, notes)


def release_parts(encoder: Beats, front_end: FrontEnd) -> Release:
    """Convert an encoder without a classifier. The parts must have no problems (`encoder_problems`, …)."""
    assert isinstance(front_end, KaldiFbank)
    options = encoder.config.model_dump() | encoder.config.shape._asdict()
    cfg: dict[str, Any] = {PATCH_SIZE: front_end.config.patch_frames, NORM_FIRST: encoder.config.norm == "pre"}
    cfg |= {theirs: options[ours] for theirs, ours in {**SETTINGS, **TRAINING_SETTINGS}.items()}
    cfg["finetuned_model"] = False
    statistics = _statistics(front_end)
    notes = []
    if statistics != _statistics(KaldiFbank(front_end.config.model_copy(update=_AUDIOSET))):
        cfg |= dict(zip(STATISTICS, statistics, strict=True))
        given = ", ".join(f"{name}={value:.6g}" for name, value in zip(STATISTICS, statistics, strict=True))
        notes.append(f"it needs the statistics of its corpus, also in `cfg`: call the released code with {given}")
    return Release({"cfg": cfg, "model": _weights(encoder, front_end.config.patch_frames)}, notes)


_AUDIOSET = {"mean": AUDIOSET_MEAN, "std": AUDIOSET_STD, "per_bin": False}


def encoder_problems(encoder: Encoder) -> list[str]:
    """List what the released code cannot express of an encoder."""
    if isinstance(encoder, Beats):
        return []
    return [f"its encoder is a {type(encoder).__name__}; the released code has only that of BEATs"]


def front_end_problems(front_end: FrontEnd) -> list[str]:
    """List what the released code cannot express of a front end."""
    if not isinstance(front_end, KaldiFbank):
        return [f"its front end is a {type(front_end).__name__}; the released code has only Kaldi filter banks"]
    config, problems = front_end.config, []
    if config.mel_bins != MEL_BINS:
        problems.append(f"its front end has {config.mel_bins} mel bins (`mel_bins`); the released code has {MEL_BINS}")
    if config.patch_frames != config.patch_bins:
        problems.append(
            f"its patches are {config.patch_frames} frames x {config.patch_bins} bins (`patch_frames`, `patch_bins`); "
            "those of the released code are square"
        )
    if front_end.mean.numel() > 1:
        problems.append("its front end normalises every mel bin separately (`per_bin`); the released code cannot")
    return problems


def refuse(problems: Sequence[str]) -> None:
    """Refuse parts that have problems.

    Raises:
        ArtifactError: with all problems, if there are any
    """
    if problems:
        listed = "".join(f"\n  - {problem}" for problem in problems)
        raise ArtifactError(f"this cannot be written in the released format:{listed}")


def _statistics(front_end: KaldiFbank) -> list[float]:
    return [float(front_end.mean), float(front_end.std)]


def _weights(encoder: Beats, patch_size: int) -> dict[str, Tensor]:
    ours = {name: value.detach().cpu().clone() for name, value in encoder.state_dict().items()}
    names = weight_names(encoder.config)
    return {theirs: to_theirs(name, ours[name], patch_size=patch_size) for theirs, name in names.items()}
