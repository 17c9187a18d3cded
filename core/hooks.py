"""The specifications of all hooks.

A plugin is a module or object with functions marked `@ossicle.hookimpl`. `core.plugin_loading` describes how plugins
are found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from .catalog import Catalog
    from .stages import Stage
    from .store import Artifact

hookspec = pluggy.HookspecMarker("ossicle")
hookimpl = pluggy.HookimplMarker("ossicle")


class ReportSection(NamedTuple):
    """A section that a plugin adds to the report. `html` is inserted unchanged."""

    title: str
    html: str


class Hooks:
    """The hook specifications."""

    @hookspec
    def ossicle_register_part_kinds(self, catalog: Catalog) -> None:
        """Add kinds of parts, `catalog.add_part_kind("decoder", Decoder)`. Called before parts are registered."""

    @hookspec
    def ossicle_register(self, catalog: Catalog) -> None:
        """Add parts, `catalog.add("tokenizer", "pca", PcaTokenizer)`, and kinds of stages, `catalog.add_stage(…)`."""

    @hookspec
    def ossicle_stage_start(self, stage: Stage) -> None:
        """Called before a stage runs. Not called for a stage whose artifact already exists."""

    @hookspec
    def ossicle_stage_end(self, stage: Stage, artifact: Artifact) -> None:
        """Called after a stage has run and its artifact is in the store."""

    @hookspec
    def ossicle_step_end(self, stage: str, step: int, metrics: Mapping[str, Any]) -> None:
        """Called when a training stage publishes its metrics at a step."""

    @hookspec
    def ossicle_report_sections(self, run_folder: Path) -> Sequence[ReportSection] | None:
        """Add sections to the report of a finished run."""


HOOKS = tuple(name for name in vars(Hooks) if name.startswith("ossicle_"))
"""The names of all hooks."""
