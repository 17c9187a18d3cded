"""The parts that load front ends, encoders and classifiers from checkpoints.

Notable choices:

- An experiment whose spectrogram differs from the one that a part was trained on is refused.
"""

from __future__ import annotations

from ..core.catalog import Catalog
from ..core.errors import ArtifactError
from ..core.interfaces import Encoder, FrontEnd, Head
from ..core.store import Artifact
from .checkpoint_config import EncoderCheckpointConfig, FrontEndCheckpointConfig, HeadCheckpointConfig
from .contents import check_front_end, encoder_of, front_end_of, head_of, open_checkpoint, roles_of


def load_front_end(config: FrontEndCheckpointConfig, catalog: Catalog) -> FrontEnd:
    """Load the front end with its statistics.

    Raises:
        ArtifactError: if there is none
    """
    return front_end_of(open_checkpoint(config.path), catalog)


def load_encoder(config: EncoderCheckpointConfig, catalog: Catalog, front_end: FrontEnd | None = None) -> Encoder:
    """Load the encoder with its weights.

    Args:
        front_end: the front end of the experiment; must be equal to that of the checkpoint. Not compared when None.

    Raises:
        ArtifactError: if there is no encoder, or it was trained with another front end
    """
    source = open_checkpoint(config.path)
    check_front_end(source, config.path, front_end, catalog)
    return encoder_of(source, catalog)


def load_head(config: HeadCheckpointConfig, width: int, classes: int, catalog: Catalog) -> Head:
    """Load the classifier with its weights.

    Raises:
        ArtifactError: if there is none, or it was made for another width or another number of classes
    """
    source = open_checkpoint(config.path)
    if isinstance(source, Artifact):
        arguments = source.card.get("parts", {}).get("head", {}).get("arguments", {})
        made_for = arguments.get("width", width), arguments.get("classes", classes)
    else:
        made_for = source.config.shape.width, len(source.head.get("linear.bias", ()))
    if made_for != (width, classes) and "head" in roles_of(source):
        raise ArtifactError(
            f"the classifier in {config.path} takes vectors of {made_for[0]} numbers and has {made_for[1]} classes, "
            f"but {width} numbers and {classes} classes are needed: use a new head instead of the checkpoint's"
        )
    return head_of(source, catalog)
