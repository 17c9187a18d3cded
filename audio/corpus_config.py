"""Configurations of the built-in corpora and of their survey, importable without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from ..core.choices import CorpusChoice
from ..core.config import Config


class FolderConfig(Config):
    """A tree of audio files."""

    path: Path = Field(strict=False)
    """Folder of the recordings, at any depth. Symbolic links are followed, and each file counts once."""
    labels: Literal["none", "folders"] = "none"
    """`none`: clips have no labels. `folders`: the label of a clip is the first folder below `path`, or below the
    folder of its split."""
    splits: Literal["auto", "folders", "shares"] = "auto"
    """`folders`: the folders directly below `path` are named train, valid, test or unlabelled. `shares`: splits are
    drawn by a hash of each clip's path. `auto`: `folders` if all of these folders have such a name, else `shares`."""
    valid_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the clips drawn for validation, in [0, 1). Only without split folders."""
    test_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the clips drawn for testing, in [0, 1). Only without split folders."""
    split_seed: int = 0
    """Seed of the hash that draws the splits. Adding files never changes the split of existing ones."""


class CsvConfig(Config):
    """A UTF-8 table with a header and one clip per row (`.csv` with commas, `.tsv` with tabs)."""

    path: Path = Field(strict=False)
    """Path of the table."""
    root: Path | None = Field(default=None, strict=False)
    """Folder that the paths in the table are relative to. Defaults to the folder of the table."""
    path_column: str = "path"
    """Column of the recordings' paths."""
    label_column: str | None = None
    """Column of the label, for corpora with one label per clip."""
    labels_column: str | None = None
    """Column of the labels, for multi-label corpora with any number of labels per clip."""
    separator: str = Field(default=";", min_length=1)
    """Separator between the labels in `labels_column`."""
    label_names: tuple[str, ...] | None = Field(default=None, strict=False)
    """Labels in the order of their ids. Defaults to the sorted labels of the table."""
    split_column: str = "split"
    """Column of the split: train, valid, test or unlabelled. Without this column all clips are in train."""
    valid_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training clips drawn for validation, in [0, 1). Only if the table has no validation clips."""
    split_seed: int = 0
    """Seed of the hash that draws them. Adding rows never changes the split of existing ones."""
    fold_column: str = "fold"
    """Column of the cross-validation fold, a whole number. Optional."""
    duration_column: str | None = None
    """Column of the expected durations in seconds. The survey uses them to find truncated recordings."""


class MixMember(Config):
    """A corpus of a mix."""

    corpus: CorpusChoice
    """The corpus. Its training and unlabelled clips are used."""
    share: float | None = Field(default=None, gt=0)
    """Share of the audio in training, relative to the other shares. Either every corpus of a mix has one or none has.
    Without shares, each clip is used once per pass. With shares, clips are drawn with replacement."""


class MixConfig(Config):
    """The training clips of several corpora, without their labels."""

    corpora: tuple[MixMember, ...] = Field(min_length=1)
    """The corpora."""

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        missing = [member.corpus.display_name for member in self.corpora if member.share is None]
        if 0 < len(missing) < len(self.corpora):
            raise ValueError(f"all corpora of a mix need a `share`, or none: add one to {', '.join(missing)}")
        return self


class GmNotesConfig(Config):
    """`gm_notes`: notes of General MIDI instruments, played from the soundfont in the `pretty_midi` wheel."""

    train_per_class: int = Field(default=60, ge=1)
    """Number of labelled training clips of each of the 16 instruments."""
    valid_per_class: int = Field(default=12, ge=0)
    """Number of validation clips of each instrument."""
    test_per_class: int = Field(default=25, ge=0)
    """Number of test clips of each instrument."""
    unlabelled: int = Field(default=1024, ge=0)
    """Number of clips without labels, spread over all 128 melodic programs."""


class SpokenWordsConfig(Config):
    """`spoken_words`: single words spoken by the eSpeak NG in the `espeakng-loader` wheel."""

    words: int = Field(default=20, ge=2, le=20)
    """Number of words, which are the classes."""
    voices: int = Field(default=92, ge=6, le=92)
    """Number of voices that say each word. About 61 % of them are for training, 13 % for validation, 26 % for
    testing."""


class SyntheticConfig(Config):
    """`synthetic`: tones in noise, drawn from a seed, of any length. Meant for trying things out."""

    path: Path | None = Field(default=None, strict=False)
    """Folder to keep the clips in. Defaults to the cache."""
    classes: int = Field(default=4, ge=1)
    """Number of pitches, which are the classes."""
    clips_per_class: int = Field(default=4, ge=1)
    """Number of clips of each class in each of train, valid and test. The unlabelled split is as large as each."""
    seconds: float = Field(default=2.0, gt=0)
    """Length of every clip."""
    multi_label: bool = False
    """Whether to give every other clip two tones. Each tone is then a label."""
    seed: int = Field(default=0, ge=0)
    """Seed of the clips."""


class SurveyRules(Config):
    """Limits beyond which a recording counts as bad."""

    min_seconds: float = Field(default=0.1, ge=0)
    """Shorter clips are `too_short`."""
    silent_peak_dbfs: float = -60.0
    """Clips whose mono mix never reaches this level are `silent`. 0 dBFS is full scale."""
    silent_rms_dbfs: float = -75.0
    """Clips whose mono mix has a root mean square below this level are `silent`."""
    max_clipped_share: float = Field(default=0.01, ge=0, le=1)
    """Clips with a larger share of samples in flat runs at full scale are `clipped`."""
    truncated_seconds: float = Field(default=0.05, ge=0)
    """Clips that are shorter by more than this than their header or the table states are `truncated`."""
    max_bad_share: float = Field(default=0.05, ge=0, le=1)
    """A corpus with a larger share of bad recordings is refused."""
