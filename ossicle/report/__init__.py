"""Reports of a run: its scores and verdicts, on the terminal and as one HTML file.

Importing this package loads neither matplotlib nor jinja2, so that the command line starts without them.
"""

from __future__ import annotations

from .html import Section, write_report
from .outcome import headline
from .record import RunRecord
from .terminal import print_summary
from .verdict import Verdict, verdicts

__all__ = ["RunRecord", "Section", "Verdict", "headline", "print_summary", "verdicts", "write_report"]
