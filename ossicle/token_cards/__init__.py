"""Report cards of tokenizers: token statistics, stability under changes of the sound, and sounds of single codes.

Importing this package loads neither torch nor scikit-learn, so that the command line starts without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.hooks import ReportSection
from ..experiment.output_paths import check_page

if TYPE_CHECKING:
    from .card import CardOptions, TokenCards

__all__ = ["measure_tokenizers", "token_card_section", "write_token_cards"]

TITLE = "Tokenizers"


def measure_tokenizers(
    paths: Sequence[Path],
    corpus: str | None = None,
    options: CardOptions | None = None,
    *,
    plugins: Sequence[Path] = (),
    on_step: Callable[[str], None] = lambda name: None,
) -> TokenCards:
    """Measure tokenizers on the same clips.

    Args:
        paths: runs (all of their tokenizers), artifacts or released checkpoints
        corpus: name of a corpus, a folder, a table or YAML; the corpus of the first run when None
        options: number of clips, seed and codes
        plugins: Python files with parts that the tokenizers or the corpus need, if they are not installed
        on_step: called with the name of each step

    Raises:
        ArtifactError: if one of `paths` has no tokenizer
        ConfigError: if `corpus` is not a valid corpus
        CorpusError: if no clip can be read
        OssicleError: if no corpus is known, or a tokenizer lacks one of the codes to listen to
    """
    from .card import CardOptions, token_cards
    from .sources import corpus_of_runs, given_corpus, load_subjects, sources_in

    sources = sources_in(paths)
    chosen = given_corpus(corpus, plugins=plugins) if corpus else corpus_of_runs(paths, plugins=plugins)
    subjects = load_subjects(sources, plugins=plugins)
    return token_cards(subjects, chosen, options or CardOptions(), on_step=on_step)


def write_token_cards(found: TokenCards, out: Path) -> Path:
    """Write cards as a page, and all values as JSON with the same name; return the path of the JSON.

    Raises:
        OssicleError: if the files cannot be written to `out`
    """
    import json

    from .html import render_page

    figures = check_page("--out", out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(render_page(found), encoding="utf-8")
    figures.write_text(json.dumps(found.plain(), indent=1, allow_nan=False), encoding="utf-8")
    return figures


def token_card_section(
    tokenizers: Mapping[str, Path],
    corpus: str | None = None,
    *,
    controls: Sequence[str] = (),
    clips: int = 200,
    seed: int = 0,
    listen: int = 2,
    plugins: Sequence[Path] = (),
) -> ReportSection:
    """Compare tokenizers in a section of another report.

    The page must have the style of `ossicle.report`, and its policy must allow `media-src data:`. Entries without a
    tokenizer, such as an encoder that was trained to reconstruct its input, are named and left out.

    Args:
        tokenizers: name to a path that `ossicle.load` accepts; a run gives the tokenizer of its last encoder, without
            controls
        corpus: as in `measure_tokenizers`
        controls: the names of the controls
        clips: number of validation clips
        listen: number of codes with sounds per tokenizer; each takes about 70 kB

    Raises:
        ArtifactError: if one of `tokenizers` cannot be loaded
        OssicleError: if `corpus` is None and none of `tokenizers` is a run
    """
    from .card import CardOptions, token_cards
    from .html import render_section
    from .sources import Source, corpus_of_runs, given_corpus, holds_tokenizer, load_subjects

    sources = {name: Source(path, name in controls) for name, path in tokenizers.items() if holds_tokenizer(path)}
    if not sources:
        return ReportSection(TITLE, '<p class="note">None of these encoders was trained with a tokenizer.</p>')
    runs = list(tokenizers.values())
    chosen = given_corpus(corpus, plugins=plugins) if corpus else corpus_of_runs(runs, plugins=plugins)
    options = CardOptions(clips=clips, seed=seed, listen=listen)
    found = token_cards(load_subjects(sources, plugins=plugins), chosen, options)
    without = [name for name in tokenizers if name not in sources]
    note = f"Left out, because they have no tokenizer: {', '.join(without)}." if without else ""
    return ReportSection(TITLE, render_section(found, note=note))
