"""Read what `torch.save` wrote, without running anything that is in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from ..core.errors import ArtifactError


def read_torch_file(path: Path) -> Any:
    """The tensors and plain values in a file.

    Raises:
        ArtifactError: if the file is missing or damaged, or holds anything else
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ArtifactError(f"`{path}` does not exist") from None
    except Exception as error:  # torch.load raises whatever the damaged bytes lead it to
        raise ArtifactError(f"`{path}` is not a checkpoint of tensors and plain values: {_fault(error)}") from error


def _fault(error: Exception) -> str:
    # torch's own message advises to load the file in a way that runs whatever is in it.
    named = re.search(r"GLOBAL (\S+)", str(error))
    if named is None:
        return "it is damaged, or of another kind"
    return f"it holds `{named[1]}`, which is never loaded, for that could run foreign code; save it without"
