"""Load tokenizers from checkpoints: released files, artifacts and runs."""

from __future__ import annotations

from ..core.catalog import Catalog
from ..core.interfaces import FrontEnd, Tokenizer
from ..core.parts import load_part
from ..core.store import Artifact
from .contents import check_front_end, open_checkpoint
from .microsoft import Released
from .tokenizer_checkpoint_config import TokenizerCheckpointConfig
from .tokenizer_format import build_tokenizer


def load_tokenizer(config: TokenizerCheckpointConfig, catalog: Catalog, front_end: FrontEnd | None = None) -> Tokenizer:
    """Load the tokenizer with its weights.

    Args:
        front_end: the front end of the experiment; must be equal to that of the checkpoint. Not compared when None.

    Raises:
        ArtifactError: if there is no tokenizer, or it was trained with another front end
    """
    source = open_checkpoint(config.path)
    check_front_end(source, config.path, front_end, catalog)
    return tokenizer_of(source, catalog)


def tokenizer_of(source: Artifact | Released, catalog: Catalog) -> Tokenizer:
    """Load the tokenizer of an opened checkpoint, in evaluation mode.

    Raises:
        ArtifactError: if there is none, or the weights do not fit
    """
    if isinstance(source, Artifact):
        return load_part(source, "tokenizer", Tokenizer, catalog)
    return build_tokenizer(source, catalog)
