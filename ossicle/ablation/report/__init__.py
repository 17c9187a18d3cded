"""The report of an ablation: one HTML file that needs nothing else.

Importing this package loads neither matplotlib nor jinja2: the command line starts without them.
"""

from __future__ import annotations

from .html import write_ablation_report

__all__ = ["write_ablation_report"]
