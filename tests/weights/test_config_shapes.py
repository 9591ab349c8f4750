"""A config that asks for another network than its weights hold is refused in the plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from linfusion_cli.errors import WeightsError
from linfusion_cli.models import builtin_folder
from linfusion_cli.weights.config_shapes import check_tensors, shapes_of
from linfusion_cli.weights.layer_shapes import Shapes
from linfusion_cli.weights.safetensors_header import read_header

BUILTIN = builtin_folder("builtin:landscape") or Path()


def config_of(part: str) -> dict[str, Any]:
    return dict(json.loads((BUILTIN / part / "config.json").read_text()))


def tensors_of(part: str) -> Shapes:
    (path,) = (BUILTIN / part).glob("*.safetensors")
    return dict(shapes_of(read_header(path).tensors))


def check(part: str, config: dict[str, Any], tensors: Shapes) -> None:
    check_tensors(part, config, tensors, Path("m/config.json"))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_the_built_in_model_fits(part: str) -> None:
    config, tensors = config_of(part), tensors_of(part)
    check(part, config, tensors)
    first = next(iter(tensors))
    for other, what in (
        ({name: shape for name, shape in tensors.items() if name != first}, "is missing, expected with shape"),
        (tensors | {first: (1, 2)}, r"has shape \(1, 2\), expected"),
        (tensors | {"strange.weight": (3,)}, "strange.weight has no place"),
    ):
        with pytest.raises(WeightsError, match=rf"^m/config\.json: .*{what}") as refused:
            check(part, config, other)
        assert len(str(refused.value)) <= 400


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("text_encoder", "vocab_size", 1 << 20),
        ("text_encoder", "hidden_size", 8192),
        ("text_encoder", "max_position_embeddings", 4096),
        ("text_encoder", "intermediate_size", 1 << 16),
        ("text_encoder", "num_hidden_layers", 64),
        ("vae", "block_out_channels", [8192, 32, 64, 96]),
        ("vae", "block_out_channels", [16, 32, 64, 8192]),
        ("vae", "layers_per_block", 3),
        ("unet", "cross_attention_dim", 99),
        ("unet", "layers_per_block", 3),
        ("unet", "transformer_layers_per_block", 2),
        ("unet", "time_cond_proj_dim", 8),
    ],
)
def test_a_value_that_the_weights_do_not_have_is_refused(part: str, key: str, value: Any) -> None:
    with pytest.raises(WeightsError, match=r"^m/config\.json: its tensor"):
        check(part, config_of(part) | {key: value}, tensors_of(part))


def test_names_of_older_files_and_tensors_that_no_image_depends_on(tmp_path: Path) -> None:
    vae, text = tensors_of("vae"), tensors_of("text_encoder")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, before in old.items():
        vae = {name.replace(f"attentions.0.{new}.", f"attentions.0.{before}."): shape for name, shape in vae.items()}
    check("vae", config_of("vae"), vae)
    text = {f"text_model.{name.removeprefix('text_model.')}": shape for name, shape in text.items()}
    more: Shapes = {"text_model.embeddings.position_ids": (1, 77), "text_projection.weight": (9, 9)}
    check("text_encoder", config_of("text_encoder"), text | more)
