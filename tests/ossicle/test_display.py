"""The terminal display."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ossicle.display import TerminalDisplay
from ossicle.planning.dry_run import DryRun, DryRunStage, print_dry_run


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("text", ["gone: [/data/x]", "pip install 'mine[torch]'", "iteration [v2]/pretrain", ":smile:"])
def test_text_with_markup_is_shown_literally(text: str, terminal: bool) -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=terminal, color_system=None)
    display = TerminalDisplay(console)
    display.note(text)
    display.warn(text)
    print_dry_run(DryRun(text, 2, 1.0, [DryRunStage(text, 1.0, 1.0, 1, 0.5)], None), console)
    display.start(text, 3)
    display.metrics({f"[/{text}] accuracy": 0.5})
    display.finish()
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert written.startswith(f"• {text}\nwarning {text}\n{text}: 2 steps")
    assert written.count(text) >= 4
