"""Ossicle: a modular toolkit for self-supervised learning on audio.

The public names are loaded on first use, so that `import ossicle` alone costs nothing and needs no torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

# The data pipeline's threads share the cores with torch's, and a torch thread that spins while it waits for another
# keeps that other from running. OpenMP reads this once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# In a checkout the rooms lie beside this folder; in a wheel they lie inside it.
_here = Path(__file__).parent
if not (_here / "core").is_dir():
    __path__.append(str(_here.parent))

__version__ = "0.1.0"

_PUBLIC = {
    "Config": "core.config",
    "ObjectiveConfig": "core.config",
    "TokenizerConfig": "core.config",
    "build": "core.build",
    "Catalog": "core.catalog",
    "ChoiceOf": "core.choices",
    "PartChoice": "core.choices",
    "part": "core.catalog",
    "corpus": "decorators",
    "front_end": "decorators",
    "encoder": "decorators",
    "tokenizer": "decorators",
    "head": "decorators",
    "objective": "decorators",
    "masking": "decorators",
    "schedule": "decorators",
    "task": "decorators",
    "launcher": "decorators",
    "stage": "decorators",
    "hookimpl": "core.hooks",
    "OssicleError": "core.errors",
    "Corpus": "core.corpus",
    "Manifest": "core.corpus",
    "AudioBatch": "core.data",
    "Encoded": "core.data",
    "Grid": "core.data",
    "PatchBatch": "core.data",
    "SpectrogramBatch": "core.data",
    "TokenBatch": "core.data",
    "VisiblePatches": "core.data",
    "Encoder": "core.interfaces",
    "FrontEnd": "core.interfaces",
    "Head": "core.interfaces",
    "LayeredModule": "core.interfaces",
    "Masking": "tasks.objectives.masking",
    "Objective": "core.interfaces",
    "ObjectiveOutput": "core.interfaces",
    "Tokenizer": "core.interfaces",
    "Launcher": "plugins.launcher_interface",
    "CorpusStage": "core.stages",
    "Schedule": "core.stages",
    "Stage": "core.stages",
    "StageRun": "core.stage_runner",
    "Task": "core.task",
    "Features": "core.task",
    "TaskResult": "core.task",
    "Score": "core.task",
    "load": "inference.load",
    "run": "experiment.run",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module `ossicle` has no attribute `{name}`")
    value = getattr(import_module(f"ossicle.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
