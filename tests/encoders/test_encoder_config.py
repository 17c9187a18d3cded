"""Shapes of encoders, and error messages of impossible ones."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from ossicle.encoders.encoder_config import SIZES, BeatsConfig, PlainVitConfig, StackConfig


@pytest.mark.parametrize("size", SIZES)
def test_every_size_is_possible(size: str):
    assert BeatsConfig(size=size).shape == SIZES[size]
    assert PlainVitConfig(size=size).stack.width == SIZES[size].width


def test_explicit_fields_override_the_size():
    config = BeatsConfig(size="tiny", layers=2, dropout=0.0)
    assert config.shape == SIZES["tiny"]._replace(layers=2)
    assert (config.stack.layers, config.stack.width, config.stack.dropout) == (2, 128, 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "`heads` must divide `width`, but 5 does not divide 768: set `heads` to one of 1, 2, 3"),
        ({"conv_position_groups": 7}, "set `conv_position_groups` to one of"),
        ({"size": "tiny", "width": 100}, "`conv_position_groups` must divide `width`, but 16 does not divide 100"),
        ({"norm": "pre"}, "set `deep_norm: false` or `norm: post`"),
        ({"relative_bias": False}, "set `gated: false` or `relative_bias: true`"),
        ({"max_distance": 80}, "raise `max_distance` or lower `buckets`"),
        ({"buckets": 321}, "multiple of 4"),
        ({"size": "huge"}, "'tiny', 'small', 'base' or 'large'"),
    ],
)
def test_impossible_encoders(options: dict[str, object], message: str):
    with pytest.raises(ValidationError, match=message):
        BeatsConfig(**options)


def test_impossible_stack():
    with pytest.raises(ValidationError, match="set `heads` to one of 1, 2, 5, 10"):
        StackConfig(layers=1, width=10, heads=3, feed_forward=20)


def test_configurations_need_no_torch():
    modules = "ossicle.encoders.encoder_config, ossicle.audio.front_end_config"
    code = f"import sys; import {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
