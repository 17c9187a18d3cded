"""The contract of tokenizers, for variants of the built-in ones. `tests/ossicle/test_testing.py` has the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ossicle.testing import TokenizerContract


class TestSeveralCodebooks(TokenizerContract):
    tokenizer = "random_projection"
    config: ClassVar[Mapping[str, Any]] = {"codebook_size": 16, "codebook_dim": 8, "normalize": "l2", "codebooks": 3}


class TestKMeansOfALayer(TokenizerContract):
    tokenizer = "kmeans"
    config: ClassVar[Mapping[str, Any]] = {"codebook_size": 8, "kmeans_vectors": 16, "layer": 1}


class TestShuffledStreams(TokenizerContract):
    tokenizer = "shuffled"
    source: ClassVar[Mapping[str, Any]] = {"type": "random_projection", "codebook_size": 16, "codebooks": 2}
    config: ClassVar[Mapping[str, Any]] = {"tokenizer": source, "clips": 12}
