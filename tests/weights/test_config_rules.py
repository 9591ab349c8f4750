"""Every setting of a config is used, known to change no image, or refused with the file's and the setting's name."""

import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
from transformers import CLIPTextConfig, CLIPVisionConfig

from linfusion_cli.errors import WeightsError
from linfusion_cli.models import builtin_folder, family_folder
from linfusion_cli.weights.config_rules import RULES, check_config

CLASSES = {
    "unet": diffusers.UNet2DConditionModel,
    "vae": diffusers.AutoencoderKL,
    "controlnet": diffusers.ControlNetModel,
    "controlnet_union": diffusers.ControlNetUnionModel,
}
SAMPLERS = RULES["scheduler"].classes


def defaults(kind: Any) -> dict[str, Any]:
    """The settings of a diffusers class, as it writes them into a config."""
    parameters = inspect.signature(kind.__init__).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name != "self"}


@pytest.mark.parametrize("part", CLASSES)
def test_the_tables_hold_every_setting_of_diffusers_and_admit_its_default(part: str) -> None:
    settings = defaults(CLASSES[part])
    assert settings.keys() <= RULES[part].settings.keys()
    if part == "vae":  # whose default has one level
        settings |= {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    first = 320 if part == "controlnet_union" else 8
    check_config(part, settings | {"block_out_channels": [first, 8, 8, 8]}, "x")


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_settings_of_every_scheduler_are_known(name: str) -> None:
    kind = getattr(diffusers, name)
    assert defaults(kind).keys() <= RULES["scheduler"].settings.keys()
    check_config("scheduler", {**defaults(kind), "_class_name": kind.__name__}, "x")


def test_the_settings_of_clip_are_known() -> None:
    for part, kind in (("text_encoder", CLIPTextConfig), ("image_encoder", CLIPVisionConfig)):
        check_config(part, kind().to_dict(), "x")
        check_config(part, json.loads(kind().to_json_string(use_diff=False)), "x")


def test_the_configs_that_ship_are_admitted() -> None:
    folders = [family_folder(name) for name in ("sd15", "sd21", "sdxl")] + [builtin_folder("builtin:landscape")]
    for folder in folders:
        assert folder
        for path in folder.glob("*/*config.json"):
            if path.parent.name in RULES:
                check_config(path.parent.name, json.loads(path.read_text()), path)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("unet", {"time_cond_proj_dim": 3}, "time_cond_proj_dim is 3"),  # too few for sine and cosine
    ("unet", {"addition_embed_type": "image"}, "addition_embed_type"),
    ("unet", {"encoder_hid_dim_type": "text_image_proj"}, "encoder_hid_dim_type"),
    ("unet", {"class_embed_type": "timestep"}, "class_embed_type"),
    ("unet", {"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift"),
    ("unet", {"conv_in_kernel": 1}, "conv_in_kernel"),
    ("unet", {"act_fn": "gelu"}, "act_fn is gelu"),
    ("unet", {"attention_type": "gated"}, "attention_type is gated"),
    ("unet", {"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}, "mid_block_type"),
    ("unet", {"in_channels": 9}, "in_channels is 9"),
    ("unet", {"only_cross_attention": [True, True, False, False]}, "only_cross_attention"),
    ("unet", {"block_out_channels": [10**9] * 4}, "block_out_channels"),
    ("unet", {"block_out_channels": [8] * 5}, "down_block_types has 4 values, block_out_channels 5"),
    ("unet", {"_class_name": "FluxTransformer2DModel"}, "its class is FluxTransformer2DModel"),
    ("unet", {"temporal": 3}, "temporal = 3 is not known"),
    ("unet", {"center_input_sample": True}, "center_input_sample is true"),
    ("vae", {"_class_name": "AutoencoderTiny"}, "its class is AutoencoderTiny"),
    ("vae", {"latents_mean": [0.1] * 4}, "latents_mean"),  # Playground 2.5
    ("vae", {"latent_channels": 16}, "latent_channels is 16"),  # SD 3, Flux
    ("vae", {"scaling_factor": 0}, "scaling_factor is 0"),
    ("vae", {"shift_factor": 0.3}, "shift_factor is 0.3"),
    ("vae", {"scaling_factor": float("nan")}, "scaling_factor is NaN"),
    ("controlnet", {"_class_name": "ControlNetUnionModel"}, "its class is ControlNetUnionModel"),
    ("controlnet", {"_class_name": "T2IAdapter"}, "its class is T2IAdapter"),
    ("controlnet", {"global_pool_conditions": 2}, "global_pool_conditions is 2"),
    ("controlnet_union", {"num_trans_channel": 8, "block_out_channels": [320]}, "its num_trans_channel is 8"),
    ("controlnet", {"controlnet_conditioning_channel_order": "gbr"}, "Allowed: rgb or bgr"),
    ("scheduler", {"_class_name": "EDMEulerScheduler"}, "its class is EDMEulerScheduler"),
    ("scheduler", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "its class is FlowMatchEulerDiscreteScheduler"),
    ("scheduler", {"prediction_type": "sample"}, "Allowed: epsilon or v_prediction"),
    ("scheduler", {"thresholding": True}, "thresholding"),
    ("scheduler", {"beta_schedule": "laplace"}, "beta_schedule is laplace"),
    ("scheduler", {"timestep_type": "continuous", "sigma_max": 120.0}, "timestep_type"),  # CosXL
    ("scheduler", {"num_train_timesteps": True}, "num_train_timesteps is true"),
    ("text_encoder", {"hidden_act": "relu"}, "hidden_act is relu"),
    ("text_encoder", {"architectures": ["T5EncoderModel"]}, "its class is T5EncoderModel"),
    ("text_encoder", {"quantization_config": {"load_in_4bit": True}}, "quantization_config"),
    ("text_encoder", {"hidden_size": 16, "num_attention_heads": 6}, "num_attention_heads, 6, does not divide"),
    ("text_encoder", {"eos_token_id": None}, "eos_token_id is null"),
    ("text_encoder_2", {"architectures": None}, "its setting architectures is missing"),
    ("text_encoder_2", {"architectures": ["CLIPTextModel"]}, "its class is CLIPTextModel"),
    ("unet", {"dropout": 2}, "dropout is 2"),
    ("unet", {"attention_type": ""}, 'attention_type is ""'),
    ("text_encoder", {"hidden_size": "768"}, "hidden_size is 768"),
]


@pytest.mark.parametrize(("part", "changes", "named"), REFUSED)
@pytest.mark.covers("settings of UNet, autoencoder, ControlNet, text encoders, scheduler that are not known", "refused")
@pytest.mark.covers("Playground 2.5, CosXL, EDM and flow schedules", "refused")
def test_what_changes_images_in_an_unknown_way_is_refused_by_name(
    part: str, changes: dict[str, Any], named: str
) -> None:
    folder = family_folder("sdxl" if part == "text_encoder_2" else "sd15")
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    own = {} if part.startswith("controlnet") else json.loads((folder / part / name).read_text())
    with pytest.raises(WeightsError) as caught:
        check_config(part, own | changes, Path("folder") / name)
    assert named in str(caught.value)
    assert str(caught.value).startswith(f"folder/{name}: ")
    assert len(str(caught.value)) <= 400


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"layers_per_block": 64, "transformer_layers_per_block": 64}, "transformer blocks"),
        ({"transformer_layers_per_block": [[64] * 8] * 2}, "transformer blocks"),
        ({"layers_per_block": 3_000_000}, "layers_per_block"),
    ],
)
def test_numbers_that_are_allowed_one_by_one_count_together(changes: dict[str, Any], named: str) -> None:
    config = {
        "block_out_channels": [16, 24],
        "down_block_types": ["CrossAttnDownBlock2D"] * 2,
        "up_block_types": ["CrossAttnUpBlock2D"] * 2,
        "cross_attention_dim": 768,
        "norm_num_groups": 8,
    }
    check_config("unet", config, "x")
    with pytest.raises(WeightsError, match=named):
        check_config("unet", {**config, **changes}, "x")
