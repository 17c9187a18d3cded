"""The works that can be measured. Importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SCALE: Final = "scale"
"""The measurement of how costs grow (`scale`). It has no contenders."""

WORKS: Final[Mapping[str, str]] = {
    "front-end": "inference_works:front_end_work",
    "encoder": "inference_works:encoder_work",
    "tokenizer": "inference_works:tokenizer_work",
    "pretrain": "training_works:pretrain_work",
    "distil": "training_works:distil_work",
    "fine-tune": "training_works:fine_tune_work",
    "pipeline": "pipeline_works:pipeline_work",
    "quickstart": "pipeline_works:quickstart_work",
}
"""Maps each work to the module of this folder and the function that prepares it from a case and the peers."""
