"""Ossicle: a modular toolkit for self-supervised learning on audio.

The public names are loaded on first use, so that `import ossicle` is fast and does not need torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

# The threads of the data pipeline share the cores with torch's. A torch thread that spins while it waits blocks the
# thread that it waits for. OpenMP reads this variable once, at the first import of torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# In a checkout the subpackages are beside this folder, in a wheel inside it.
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
    "optimizer": "decorators",
    "lr_schedule": "decorators",
    "schedule": "decorators",
    "task": "decorators",
    "launcher": "decorators",
    "stage": "decorators",
    "hookimpl": "core.hooks",
    "OssicleError": "core.errors",
    "Corpus": "core.corpus",
    "Manifest": "core.manifest",
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
    "LrSchedule": "core.interfaces",
    "Objective": "core.interfaces",
    "ObjectiveOutput": "core.interfaces",
    "Optimizer": "core.interfaces",
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
