"""Which tensors of a single file are read, left out or refused."""

import re
from pathlib import Path

import pytest
import torch

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.safetensors_header import Header, TensorInfo
from linfusion_cli.weights.single_file import check_single_file, is_turbo, lost, unused


def test_tensors_that_no_image_depends_on() -> None:
    names = ["betas", "model_ema.decay", "loss.logvar", "v_pred", "first_stage_model.decoder.conv_in.weight"]
    names += ["cond_stage_model.transformer.text_model.embeddings.position_ids"]
    names += ["cond_stage_model.text_projection"]
    assert unused(names) == ["betas", "model_ema.decay", "loss.logvar", *names[-2:]]


def test_a_tensor_of_no_part_is_refused_by_name(tmp_path: Path) -> None:
    """Also one beside a text encoder, which none of its prefixes reads."""
    parts = ["model.diffusion_model.x", "first_stage_model.x", "cond_stage_model.transformer.x", "betas"]
    check_single_file(Header(tmp_path, dict.fromkeys(parts, TensorInfo("F32", (1,), 0, 4)), {}))
    for odd in ("cond_stage_model.odd", "conditioner.embedders.7.x", "unet.x"):
        with pytest.raises(WeightsError, match=re.escape(odd)):
            check_single_file(Header(tmp_path, dict.fromkeys([*parts, odd], TensorInfo("F32", (1,), 0, 4)), {}))


def test_a_tensor_that_a_conversion_drops_is_named() -> None:
    kept, dropped = torch.ones(1), torch.ones(2)
    lost({"a": kept}, {"b": kept}, "x")
    with pytest.raises(WeightsError, match="x: its tensor odd has no place"):
        lost({"a": kept, "odd": dropped}, {"b": kept}, "x")


def test_sd_turbo_is_told_by_its_text_encoder() -> None:
    assert is_turbo({"conditioner.embedders.0.model.ln_final.weight": None})  # type: ignore[dict-item]
    assert not is_turbo({"conditioner.embedders.0.transformer.x": None})  # type: ignore[dict-item]
