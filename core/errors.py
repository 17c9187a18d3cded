"""Errors that a user can fix. The command line prints them without a traceback and exits with 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class OssicleError(Exception):
    """Base of every error that a user can fix."""


@dataclass(frozen=True)
class Location:
    """A position in a text that the user wrote; lines and columns count from 1."""

    source: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an experiment, and where."""

    where: Location | str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class ConfigError(OssicleError):
    """An experiment that cannot run as written. It lists every problem, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PluginError(OssicleError):
    """A plugin, or a part of a plugin, that violates the interface."""


class CorpusError(OssicleError):
    """Recordings or labels that cannot be used as they are."""


class ArtifactError(OssicleError):
    """A stored result that is missing, damaged or of the wrong kind."""


class DiskFullError(OssicleError):
    """A disk without enough free space, or a disk quota that is used up."""


class Interrupted(OssicleError):  # noqa: N818  (a stop on request is not an error)
    """A stage that stopped on request, after writing what is needed to continue."""


class StoppedElsewhere(OssicleError):  # noqa: N818  (the error is another process's)
    """One of several processes that ends because another one failed. The other one reports the cause."""
