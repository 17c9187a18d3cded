"""The content of report cards of tokenizers, measured on the same clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..core.choices import PartChoice
from ..core.errors import OssicleError
from .agreement import agreement
from .clip_tokens import ClipTokens, Ids, embed, tokenize
from .clips import CROP_SECONDS, DrawnClips, draw_clips
from .contents import Contents, measure_contents
from .listening import Code, check_codes, listen
from .maps import ClipMap, map_of_embeddings, map_of_tokens
from .perturbations import PERTURBATIONS, Perturbation
from .sources import Subject
from .stability import CLIPS, Stability, stability

LOPSIDED, POSITIONAL = 0.5, 0.5


@dataclass(frozen=True)
class CardOptions:
    """Options of report cards.

    Attributes:
        clips: number of clips to draw
        seed: seed of all random choices
        split: split to draw from; when None the validation split, or the training split if it has no clips
        codes: the codes to listen to
        listen: number of codes to select per tokenizer if `codes` is empty
        perturbations: the changes of the sound to measure stability under

    Raises:
        OssicleError: if `clips` is below 1 or `seed` below 0
    """

    clips: int = 300
    seed: int = 0
    split: str | None = None
    codes: Sequence[int] = ()
    listen: int = 6
    perturbations: Sequence[Perturbation] = PERTURBATIONS

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise OssicleError(f"`clips` must be at least 1, but is {self.clips}")
        if self.seed < 0:
            raise OssicleError(f"`seed` must be 0 or more, but is {self.seed}")


@dataclass(frozen=True)
class Card:
    """The report card of one tokenizer.

    Attributes:
        path: the artifact or checkpoint with the tokenizer
        bands_hz: lower and upper edge of each frequency band in Hz
        stability: stability under every perturbation
        token_map: map of the clips by their tokens; None for too few clips
        encoder_map: map of the clips by the encoder that was trained on the tokens; None without one
        codes: codes to listen to
    """

    title: str
    control: bool
    path: str
    codebook_size: int
    streams: int
    bands_hz: list[tuple[float, float]]
    contents: Contents
    stability: list[Stability]
    token_map: ClipMap | None
    encoder_map: ClipMap | None
    codes: list[Code]

    @property
    def bands(self) -> int:
        """Patches per time column."""
        return len(self.bands_hz)

    @property
    def summary(self) -> dict[str, float | None]:
        """The values that tokenizers are compared by, each the mean over the streams; None if not available."""
        mean = self.contents.mean
        return {
            "used": mean(lambda one: one.statistics.used),
            "perplexity": mean(lambda one: one.statistics.perplexity),
            "batch_used": mean(lambda one: one.batch_used),
            "batch_perplexity": mean(lambda one: one.batch_perplexity),
            "commonest": mean(lambda one: one.commonest),
            "label_information": mean(lambda one: one.statistics.label_information),
            "label_chance": mean(lambda one: one.statistics.label_chance),
            "class_share": mean(lambda one: one.class_share.value if one.class_share else None),
            "class_share_chance": mean(lambda one: one.class_share.chance if one.class_share else None),
            "purity": mean(lambda one: one.purity.value if one.purity else None),
            "purity_chance": mean(lambda one: one.purity.chance if one.purity else None),
            "position_information": mean(lambda one: one.statistics.position_information),
            "column_information": mean(lambda one: one.statistics.column_information),
            "band_information": mean(lambda one: one.statistics.band_information),
            "steadiness": self.steadiness,
        }

    @property
    def steadiness(self) -> float | None:
        """Mean over all perturbations of the share of tokens kept beyond chance at their position (Cohen's kappa)."""
        found = [one.kappa for one in self.stability if one.kappa is not None]
        return sum(found) / len(found) if found else None

    def under(self, family: str, strength: float) -> Stability | None:
        """Return the stability under one perturbation; None if it was not measured."""
        return next((one for one in self.stability if (one.family, one.strength) == (family, strength)), None)

    @property
    def remarks(self) -> list[str]:
        """Warnings about the values, as sentences without a full stop."""
        found, summary = [], self.summary
        commonest, position = summary["commonest"] or 0.0, summary["position_information"] or 0.0
        information, chance = summary["label_information"], summary["label_chance"]
        if commonest > LOPSIDED:
            found.append(f"one code labels {100 * commonest:.0f} % of the patches")
        if position > POSITIONAL:
            found.append(f"its tokens mostly encode their position (normalised mutual information {position:.2f})")
        if information is not None and chance is not None and information <= chance:
            found.append("its tokens contain no more information about the class than by chance")
        return found


@dataclass(frozen=True)
class TokenCards:
    """The report cards of several tokenizers on the same clips.

    Attributes:
        cards: one for each tokenizer, in the given order
        agreement: adjusted mutual information of every two tokenizers; None if their grids differ
    """

    clips: DrawnClips
    options: CardOptions
    cards: list[Card]
    agreement: list[list[float | None]]

    @property
    def stability_clips(self) -> int:
        """The number of clips that stability is measured on."""
        return min(CLIPS, len(self.clips.manifest))

    def plain(self) -> dict[str, Any]:
        """Convert all values to plain data for JSON, without sounds and pictures."""
        clips = self.clips
        return {
            "corpus": clips.corpus,
            "split": clips.split,
            "clips": len(clips.manifest),
            "clips_in_split": clips.available,
            "seconds": round(clips.seconds, 3),
            "crop_seconds": CROP_SECONDS,
            "seed": self.options.seed,
            "paths": clips.manifest.paths.tolist(),
            "unreadable": list(clips.unreadable),
            "tokenizers": [_plain(card) for card in self.cards],
            "agreement": self.agreement,
        }


def _plain(card: Card) -> dict[str, Any]:
    """Convert one card to plain data for JSON."""
    return {
        "name": card.title,
        "control": card.control,
        "path": card.path,
        "codebook_size": card.codebook_size,
        "streams": card.streams,
        "tokens": card.contents.tokens,
        "summary": card.summary,
        "of_each_stream": [asdict(stream) for stream in card.contents.streams],
        "stability": [{**asdict(one), "kappa": one.kappa} for one in card.stability],
        "maps": {"tokens": _plain_map(card.token_map), "encoder": _plain_map(card.encoder_map)},
        "codes": [_plain_code(code) for code in card.codes],
        "remarks": card.remarks,
    }


def _plain_map(found: ClipMap | None) -> dict[str, Any] | None:
    if found is None:
        return None
    points = found.points.round(4).tolist()
    return {"points": points, "nearest_of_same_class": found.neighbours, "chance": found.chance}


def _plain_code(code: Code) -> dict[str, Any]:
    names = ("path", "label", "typical", "column", "band", "start", "end")
    return {
        "code": code.number,
        "why": code.why,
        "share": code.share,
        "clips": code.clips,
        "classes": [{"class": name, "share": share, "of_all": of_all} for name, share, of_all in code.classes],
        "commonest_band_hz": code.band_hz[:2],
        "share_in_that_band": code.band_hz[2],
        "examples": [{name: getattr(example, name) for name in names} for example in code.examples],
    }


def token_cards(
    subjects: Sequence[Subject],
    corpus: PartChoice,
    options: CardOptions,
    *,
    on_step: Callable[[str], None] = lambda name: None,
) -> TokenCards:
    """Measure tokenizers on the same clips of a corpus.

    Args:
        on_step: called with the name of each step

    Raises:
        CorpusError: if no clip can be read
        OssicleError: if a tokenizer lacks one of the codes to listen to
    """
    check_codes(subjects, options.codes)
    on_step("drawing clips")
    rates = [subject.part.front_end.sample_rate for subject in subjects]
    clips = draw_clips(corpus, clips=options.clips, seed=options.seed, sample_rates=rates, split=options.split)
    of_subjects = []
    for subject in subjects:
        on_step(f"tokenizing: {subject.name}")
        of_subjects.append(tokenize(subject, clips.waves[subject.part.front_end.sample_rate]))
    measured = stability(
        subjects,
        of_subjects,
        clips,
        seed=options.seed,
        perturbations=options.perturbations,
        on_step=lambda name: on_step(f"changing clips: {name}"),
    )
    cards = []
    for subject, tokens, stable in zip(subjects, of_subjects, measured, strict=True):
        on_step(f"measuring: {subject.name}")
        cards.append(_card(subject, tokens, stable, clips, options))
    on_step("comparing")
    return TokenCards(clips, options, cards, agreement(of_subjects))


def _card(
    subject: Subject, tokens: ClipTokens, stable: list[Stability], clips: DrawnClips, options: CardOptions
) -> Card:
    classes: Ids | None = clips.classes
    embedded = embed(subject, clips.waves[subject.part.front_end.sample_rate])
    codes = listen(subject, tokens, clips, number=options.listen, codes=options.codes, seed=options.seed)
    return Card(
        title=subject.title,
        control=subject.control,
        path=str(subject.part.path),
        codebook_size=tokens.codebook_size,
        streams=tokens.streams,
        bands_hz=[(low, high) for low, high in subject.part.front_end.band_edges().tolist()],
        contents=measure_contents(tokens, clips, seed=options.seed),
        stability=stable,
        token_map=map_of_tokens(tokens, classes, seed=options.seed),
        encoder_map=map_of_embeddings(embedded, classes, seed=options.seed),
        codes=codes,
    )
