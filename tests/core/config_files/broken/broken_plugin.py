"""A plugin that cannot be loaded."""

from __future__ import annotations

raise ValueError("this plugin is broken on purpose")
