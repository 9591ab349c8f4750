"""A config that asks for another network than its weights hold is refused in the plan."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from linfusion_cli.errors import WeightsError
from linfusion_cli.models import builtin_folder
from linfusion_cli.weights.config_shapes import check_shapes
from linfusion_cli.weights.safetensors_header import Header, read_header


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(builtin_folder("builtin:landscape") or Path(), tmp_path / "model"))


def headers(model: Path) -> list[Header]:
    return [read_header(path) for path in sorted(model.rglob("*.safetensors"))]


def test_the_built_in_model_fits(model: Path) -> None:
    check_shapes(headers(model))
    (model / "vae" / "config.json").unlink()
    check_shapes(headers(model))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("text_encoder", "vocab_size", 1 << 20),
        ("text_encoder", "hidden_size", 8192),
        ("text_encoder", "max_position_embeddings", 4096),
        ("text_encoder", "intermediate_size", 1 << 16),
        ("text_encoder", "num_hidden_layers", 900),
        ("vae", "block_out_channels", [8192, 32, 64, 96]),
        ("vae", "block_out_channels", [16, 32, 64, 8192]),
        ("vae", "block_out_channels", [16, 32, 64, 96, 96]),
    ],
)
def test_a_value_that_the_weights_do_not_have_is_named(model: Path, part: str, key: str, value: Any) -> None:
    path = model / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(WeightsError, match=rf'{part}/config\.json: "{key}"') as refused:
        check_shapes(headers(model))
    assert len(str(refused.value)) <= 400
