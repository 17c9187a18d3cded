"""Commands that use trained parts: `embed`, `tokenize`, `import` and `export`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from .options import Adder, add_plugin

# The values of `audio.windows`, which imports torch.
WINDOW_SECONDS, OVERLAP_SECONDS = 30.0, 4.0


def add_commands(add: Adder) -> None:
    """Add the commands of this group."""
    _add_audio_options(add("embed", _embed, "write the embeddings of audio files"), "embeddings.npz")
    _add_audio_options(add("tokenize", _tokenize, "write the token ids of audio files"), "tokens.npz")
    _add_import_options(add("import", _import, "convert a BEATs, OpenBEATs or ESPnet checkpoint"))
    _add_export_options(add("export", _export, "write an encoder or a tokenizer as a BEATs checkpoint"))


def _add_audio_options(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("part", type=Path, help="an artifact, the folder of a run, or a released checkpoint")
    parser.add_argument("audio", nargs="+", type=Path, help="audio files, or folders with audio files")
    parser.add_argument(
        "--out", type=Path, default=Path(default), metavar="FILE", help=f".npz or .parquet file (default: {default})"
    )
    parser.add_argument(
        "--window-seconds",
        type=float,
        default=WINDOW_SECONDS,
        metavar="SECONDS",
        help=f"split longer recordings into windows of this length; inf: do not split (default: {WINDOW_SECONDS:g})",
    )
    parser.add_argument(
        "--overlap-seconds",
        type=float,
        default=OVERLAP_SECONDS,
        metavar="SECONDS",
        help=f"overlap of windows; half of it is context on either side (default: {OVERLAP_SECONDS:g})",
    )
    add_plugin(parser)


def _add_import_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the checkpoint")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="folder of the artifact; new or empty"
    )


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="an artifact, or the folder of a run")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write, such as BEATs.pt")
    parser.add_argument(
        "--part", choices=("encoder", "tokenizer"), help="the part to write (default: the encoder, if any)"
    )
    add_plugin(parser)


def _embed(options: argparse.Namespace) -> int:
    """Write the embeddings of audio files: one for each patch, and their mean for each file."""
    from ..inference.export import embed_files

    return _write(embed_files, options)


def _tokenize(options: argparse.Namespace) -> int:
    """Write the token ids of audio files, with the time and the frequency band of each."""
    from ..inference.export import tokenize_files

    return _write(tokenize_files, options)


def _write(export: Callable[..., int], options: argparse.Namespace) -> int:
    files = export(
        options.part,
        options.audio,
        options.out,
        plugins=options.plugin,
        window_seconds=options.window_seconds,
        overlap_seconds=options.overlap_seconds,
    )
    print(f"{files} files -> {options.out}")
    return 0


def _import(options: argparse.Namespace) -> int:
    """Convert a released checkpoint of BEATs, OpenBEATs or ESPnet to an artifact."""
    from ..inference.checkpoints import import_file

    artifact = import_file(options.file, options.out)
    for note in artifact.card["warnings"]:
        print(f"note: {note}", file=sys.stderr)
    print(f"{', '.join(sorted(artifact.card['parts']))} -> {artifact.path}")
    return 0


def _export(options: argparse.Namespace) -> int:
    """Write an encoder or a tokenizer in the format of the released BEATs checkpoints."""
    from ..inference.checkpoints import export

    for note in export(options.source, options.out, part=options.part, plugins=options.plugin).notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{options.source} -> {options.out}")
    return 0
