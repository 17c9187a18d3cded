"""Read files that `torch.save` wrote, without running code from them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from ..core.errors import ArtifactError


def read_torch_file(path: Path) -> Any:
    """Read the tensors and plain values in a file.

    Raises:
        ArtifactError: if the file is missing or damaged, or contains anything else
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ArtifactError(f"`{path}` does not exist") from None
    except Exception as error:  # damaged bytes can make torch.load raise any exception
        raise ArtifactError(f"`{path}` is not a checkpoint of tensors and plain values: {_fault(error)}") from error


def _fault(error: Exception) -> str:
    # torch's message is not shown, because it advises to load the file in a way that runs code from it.
    named = re.search(r"GLOBAL (\S+)", str(error))
    if named is None:
        return "it is damaged, or of another kind"
    return f"it contains `{named[1]}`, which is never loaded, because that could run foreign code; save it without"
