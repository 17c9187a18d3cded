"""The report of an ablation: one self-contained HTML file.

Importing this package loads neither matplotlib nor jinja2, so the command line starts fast.
"""

from __future__ import annotations

from .html import write_ablation_report

__all__ = ["write_ablation_report"]
