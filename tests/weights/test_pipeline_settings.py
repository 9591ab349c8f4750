"""Every entry of model_index.json is used, ignored on purpose, or refused with the file's name."""

import json
from pathlib import Path
from typing import Any

import pytest
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from linfusion_cli.errors import WeightsError
from linfusion_cli.models import builtin_folder, family_folder
from linfusion_cli.weights.pipeline_settings import COMPONENTS, IGNORED_COMPONENTS, TOKENIZERS, read_pipeline_settings


def written(folder: Path, **entries: Any) -> Path:
    index = json.loads((family_folder("sdxl") / "model_index.json").read_text()) | entries
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def test_the_families_own_and_the_built_in_model_are_read() -> None:
    folders = [family_folder(name) for name in ("sd15", "sd21", "sdxl")] + [builtin_folder("builtin:landscape")]
    assert all(folder and read_pipeline_settings(folder).force_zeros_for_empty_prompt for folder in folders)


def test_the_setting_is_read_and_true_where_it_is_missing(tmp_path: Path) -> None:
    assert not read_pipeline_settings(
        written(tmp_path, force_zeros_for_empty_prompt=False)
    ).force_zeros_for_empty_prompt
    (tmp_path / "model_index.json").write_text("{}")
    assert read_pipeline_settings(tmp_path).force_zeros_for_empty_prompt


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({"_class_name": "FluxPipeline"}, "FluxPipeline"),
        ({"_class_name": "StableDiffusion3Pipeline"}, "StableDiffusion3Pipeline"),
        ({"_class_name": ["x"]}, "x"),
        ({"requires_aesthetics_score": True}, "refiner"),
        ({"sharpen": 2}, "sharpen"),
        ({"transformer": ["diffusers", "FluxTransformer2DModel"]}, "transformer"),
        ({"controlnet": ["diffusers", "ControlNetModel"]}, "controlnet"),
        ({"vae": ["diffusers", "AutoencoderTiny"]}, "AutoencoderTiny"),
        ({"unet": ["diffusers", "UNet3DConditionModel"]}, "UNet3DConditionModel"),
        ({"force_zeros_for_empty_prompt": "no"}, "force_zeros_for_empty_prompt"),
        ({"x" * 5000: "y" * 5000}, "xxx"),
    ],
)
@pytest.mark.covers("other settings and components of `model_index.json`", "refused")
def test_what_is_not_known_is_refused_by_name(tmp_path: Path, entries: dict[str, Any], named: str) -> None:
    with pytest.raises(WeightsError, match=named) as caught:
        read_pipeline_settings(written(tmp_path, **entries))
    assert str(tmp_path / "model_index.json") in str(caught.value)
    assert len(str(caught.value)) - len(str(tmp_path)) <= 300


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '"x"', "[" * 100_000])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(WeightsError, match=r"model_index\.json"):
        read_pipeline_settings(tmp_path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model_index\.json: can't be read"):
        read_pipeline_settings(tmp_path)


@pytest.mark.parametrize("kind", [StableDiffusionPipeline, StableDiffusionXLPipeline])
def test_every_component_of_diffusers_pipelines_is_known(kind: Any, tmp_path: Path) -> None:
    components, settings = kind._get_signature_types(), kind._optional_components
    known = {*COMPONENTS, *TOKENIZERS, *IGNORED_COMPONENTS}
    listed = {name for name in components if name not in ("force_zeros_for_empty_prompt", "add_watermarker")}
    assert {*listed, *settings} - {"requires_safety_checker"} <= known
    read_pipeline_settings(written(tmp_path, add_watermarker=True, requires_safety_checker=True))
