"""The tokenizers of a report card, their names, and the corpus.

Notable choices:

- A run gives all of its tokenizers, including controls, because these are the first comparison that a card makes.
- If no corpus is given, the corpus of the first run is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ..checkpoints.contents import open_checkpoint, roles_of
from ..core.choices import CorpusChoice, PartChoice
from ..core.config import Config
from ..core.config_files.documents import Document, load_document, parse_document
from ..core.config_files.validation import problems_of
from ..core.errors import ArtifactError, ConfigError, OssicleError, PluginError
from ..core.interfaces import Tokenizer
from ..core.plugin_loading import load_plugins
from ..core.store import RUN
from ..inference.load import LoadedPart, load
from ..report.record import read_run

EXPERIMENT = "experiment.yaml"
NAME_THEM = "name a corpus, `--corpus gm_notes`, or a folder, `--corpus ./recordings`"


@dataclass(frozen=True)
class Source:
    """The source of a tokenizer.

    Attributes:
        path: a path that `ossicle.load` accepts
        control: whether it is a control in its run
    """

    path: Path
    control: bool = False


@dataclass(frozen=True)
class Subject:
    """A tokenizer of a report card.

    Attributes:
        part: the tokenizer with its front end and, if there is one, the encoder that was trained on its tokens
    """

    name: str
    part: LoadedPart
    tokenizer: Tokenizer
    control: bool = False

    @property
    def title(self) -> str:
        """The name in tables and figures."""
        return f"{self.name} (control)" if self.control else self.name


def sources_in(paths: Sequence[Path]) -> dict[str, Source]:
    """Name the tokenizers of runs, artifacts and released checkpoints. A run gives all of its tokenizers.

    Raises:
        ArtifactError: if a run has no tokenizer, its `run.json` cannot be read, or one of `paths` does not exist
    """
    found: dict[str, Source] = {}
    for path in paths:
        if not path.exists():
            raise ArtifactError(f"`{path}` does not exist; name a run, an artifact or a released checkpoint")
        named = dict(_of_run(path)) if (path / RUN).is_file() else {path.stem: Source(path)}
        if len(paths) > 1 and len(named) > 1:
            named = {f"{path.resolve().name}: {name}": source for name, source in named.items()}
        elif len(paths) > 1:
            named = {path.resolve().stem: source for source in named.values()}
        for name, source in named.items():
            found[str(path) if name in found else name] = source
    return found


def _of_run(folder: Path) -> Iterator[tuple[str, Source]]:
    """Find the tokenizers of a run. Each is in the artifact of the encoder that was trained on it, and has its name."""
    stages = [stage for stage in read_run(folder).get("stages") or [] if "makes_encoder" in stage["flags"]]
    with_tokenizer = [stage for stage in stages if holds_tokenizer(folder / stage["artifact"])]
    for stage in with_tokenizer:
        path, tags = (folder / stage["artifact"]).resolve(), stage["tags"]
        yield tags.get("subject", stage["name"]), Source(path, bool(tags.get("control")))
    if not with_tokenizer:
        raise ArtifactError(f"{folder} is a run without a tokenizer: it pre-trained no encoder on tokens")


def holds_tokenizer(path: Path) -> bool:
    """Whether an artifact, the last encoder of a run, or a released file contains a tokenizer.

    Raises:
        ArtifactError: if `path` is none of these
    """
    return "tokenizer" in roles_of(open_checkpoint(path))


def load_subjects(sources: Mapping[str, Source], *, plugins: Sequence[Path] = ()) -> list[Subject]:
    """Load tokenizers.

    Raises:
        ArtifactError: if a source contains no tokenizer
    """
    subjects = []
    for name, source in sources.items():
        part = load(source.path, plugins=plugins)
        if part.tokenizer is None:
            content = "an encoder" if part.encoder is not None else "only a front end"
            raise ArtifactError(f"{source.path} contains no tokenizer; it contains {content}")
        subjects.append(Subject(name, part, part.tokenizer, source.control))
    return subjects


class _CorpusOnly(Config):
    """The value of `--corpus`, or only the corpus of an experiment."""

    corpus: CorpusChoice


def given_corpus(text: str, *, plugins: Sequence[Path] = ()) -> PartChoice:
    """Read the corpus of the command line: a built-in name, a folder of recordings, a table, or YAML with all settings.

    Raises:
        ConfigError: if it is none of these
    """
    path = Path(text)
    if path.is_dir() and text not in load_plugins(plugins).catalog.names("corpus"):
        text = json.dumps({"type": "folder", "path": str(path.absolute())})
    elif path.suffix in (".csv", ".tsv"):
        text = json.dumps({"type": "csv", "path": str(path.absolute())})
    document = parse_document(f"corpus: {text}\n", "--corpus", Path.cwd())
    return _corpus_in(document, plugins)


def _corpus_in(document: Document, plugins: Sequence[Path]) -> PartChoice:
    catalog = load_plugins(plugins).catalog
    stated = {"corpus": document.tree["corpus"]} if "corpus" in document.tree else {}
    try:
        return _CorpusOnly.model_validate_json(json.dumps(stated), context={"catalog": catalog}).corpus
    except ValidationError as error:
        raise ConfigError(problems_of(error, _CorpusOnly, document, catalog)) from None


def corpus_of_runs(paths: Sequence[Path], *, plugins: Sequence[Path] = ()) -> PartChoice:
    """Find the corpus that the first run among `paths` was trained on.

    Other settings of its experiment are ignored, because an older one may contain settings that no longer exist.

    Raises:
        OssicleError: if none of `paths` is a run, or its corpus is no longer known
    """
    for path in paths:
        if (path / EXPERIMENT).is_file():
            try:
                document = load_document(path / EXPERIMENT)
                stated = [Path(text) for text in document.tree.get("plugins") or []]
                return _corpus_in(document, [*(file for file in stated if file.is_file()), *plugins])
            except (ConfigError, PluginError) as error:
                raise OssicleError(f"{error}\nthe corpus of {path} is not known: {NAME_THEM}") from error
    raise OssicleError(f"there is no corpus: no run is given, and no `--corpus`: {NAME_THEM}")
