"""One contract for each symbol of diffusers, peft, transformers and accelerate that compat_diffusers touches.

A new release that changes one fails the test of its name.
"""

import inspect
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from families import FAMILIES, loaded_pipeline, make_family
from torch import nn

from linfusion_cli.engine import compat_diffusers as compat

SMALL: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 8,
    "attention_head_dim": 4,
    "norm_num_groups": 4,
}


@pytest.fixture
def unet() -> Any:
    torch.manual_seed(0)
    return UNet2DConditionModel(**SMALL, sample_size=8).eval().requires_grad_(False)


@pytest.fixture
def controlnet(unet: Any) -> Any:
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8)).eval()


def lora(unet: Any, *endings: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for name, module in unet.named_modules():
        if name.endswith(endings):
            weight = module.weight
            found[f"unet.{name}.lora_A.weight"] = torch.randn(2, *weight.shape[1:])
            found[f"unet.{name}.lora_B.weight"] = torch.randn(len(weight), 2, *[1] * (weight.ndim - 2))
    return found


def test_init_empty_weights() -> None:
    layer = compat.hollow(lambda: nn.Linear(3, 2))
    assert layer.weight.is_meta
    assert layer.weight.shape == (2, 3)


def test_fix_state_dict_keys_on_load_renames_the_attention_of_2022() -> None:
    model = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    old = {"encoder.mid_block.attentions.0.query.weight": torch.ones(8, 8)}
    compat.rename_old_keys(model, old)
    assert list(old) == ["encoder.mid_block.attentions.0.to_q.weight"]


@pytest.mark.parametrize(
    "name",
    [
        "convert_ldm_unet_checkpoint",
        "convert_ldm_vae_checkpoint",
        "convert_ldm_clip_checkpoint",
        "convert_open_clip_checkpoint",
        "convert_controlnet_checkpoint",
    ],
)
def test_single_file_utils_take_a_checkpoint_and_a_config(name: str) -> None:
    from diffusers.loaders import single_file_utils

    parameters = list(inspect.signature(getattr(single_file_utils, name)).parameters)
    assert "checkpoint" in parameters[:2]
    assert parameters[:2] in (["checkpoint", "config"], ["checkpoint", "remove_prefix"], ["text_model", "checkpoint"])


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_conversions_give_the_names_of_diffusers(family: str, tmp_path: Any) -> None:
    """Every weight of a model's single file comes back under the name that the model in diffusers layout has."""
    from linfusion_cli.engine.loading.model_files import FileSource, FolderSource
    from linfusion_cli.weights.safetensors_header import read_header
    from linfusion_cli.weights.weight_file import WeightFile

    made = make_family(family, tmp_path / "model")
    single = FileSource.of(read_header(made.file), family, made.folder)
    folder = FolderSource(made.folder, WeightFile.resolve((str(made.folder),), "", "model").headers)
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = (source.tensors(part, torch.float32) for source in (single, folder))
        strip = [{name.removeprefix("text_model.") for name in tensors} for tensors in (ours, theirs)]
        assert {name for name in strip[1] if "position_ids" not in name} <= strip[0]


def test_get_time_embed_and_get_aug_embed(unet: Any, controlnet: Any) -> None:
    """A UNet's own forward passes this embedding to its blocks; a ControlNet of the same weights computes the same."""
    sample, timestep, text = torch.randn(1, 4, 8, 8), torch.tensor(7), torch.randn(1, 3, 8)
    seen: list[torch.Tensor] = []
    unet.mid_block.register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    unet(sample, timestep, text)
    for model in (unet, controlnet):
        assert torch.equal(compat.time_and_added_embedding(model, sample, timestep, text, {}), seen[0])


def test_controlnet_cond_embedding_can_be_left_out(controlnet: Any) -> None:
    sample, text, image = torch.randn(1, 4, 8, 8), torch.randn(1, 3, 8), torch.rand(1, 3, 16, 16)
    nn.init.normal_(controlnet.controlnet_mid_block.weight)
    whole = controlnet(sample, 5, text, image, return_dict=False)[1]
    embedded, before = controlnet.controlnet_cond_embedding(image), controlnet.controlnet_cond_embedding
    with compat.condition_embedded(controlnet):
        assert torch.equal(controlnet(sample, 5, text, embedded, return_dict=False)[1], whole)
    assert controlnet.controlnet_cond_embedding is before


@pytest.mark.slow
def test_final_layer_norm_is_found_by_clip_skip(tmp_path: Any) -> None:
    pipeline = loaded_pipeline(make_family("sd15", tmp_path / "model"))
    with compat.final_norm_found(pipeline.text_encoder):
        embedded = pipeline.encode_prompt("a", torch.device("cpu"), 1, False, clip_skip=1)[0]
        ids = pipeline.tokenizer("a", padding="max_length", return_tensors="pt").input_ids
    states = pipeline.text_encoder(ids, output_hidden_states=True).hidden_states[-2]
    assert torch.equal(embedded, pipeline.text_encoder.final_layer_norm(states))
    assert "text_model" not in pipeline.text_encoder.__dict__


def test_load_ip_adapter_weights_and_processors(unet: Any) -> None:
    crosses = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    state: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    state["image_proj"] = {"proj.weight": torch.randn(32, 6), "proj.bias": torch.zeros(32)}
    state["image_proj"] |= {"norm.weight": torch.ones(8), "norm.bias": torch.zeros(8)}
    for number, name in enumerate(crosses):
        width = unet.get_submodule(name.removesuffix(".processor")).to_q.weight.shape[0]
        for part in ("to_k_ip", "to_v_ip"):
            state["ip_adapter"][f"{2 * number + 1}.{part}.weight"] = torch.randn(width, 8)
    before, kind = dict(unet.attn_processors), unet.config.encoder_hid_dim_type
    compat.mount_ip_adapter(unet, state, 0.3)
    assert [unet.attn_processors[name].scale for name in crosses] == [[0.3]] * len(crosses)
    compat.unmount_ip_adapter(unet, before, kind)
    assert all(unet.attn_processors[name] is processor for name, processor in before.items())
    assert unet.encoder_hid_proj is None


def test_peft_layers_scaling_set_adapter(unet: Any) -> None:
    StableDiffusionPipeline.load_lora_into_unet(lora(unet, "to_q"), None, unet, adapter_name="a")
    assert compat.has_lora(unet, "a")
    compat.activate_loras(unet, "a", {name: 0.25 for name, _ in unet.named_modules()})
    layers = compat.lora_layers(unet)
    assert layers
    assert all(layer.scaling == {"a": 0.25} and layer.active_adapters == ["a"] for layer in layers)
    assert isinstance(compat.base_layer(layers[0]), nn.Linear)


def test_delete_adapter_peft_config_and_hf_peft_config_loaded(unet: Any) -> None:
    before = dict(unet.named_modules())
    for name in ("lora0", "lora1"):
        with compat.several_loras():
            StableDiffusionPipeline.load_lora_into_unet(lora(unet, "to_q", "conv1"), None, unet, adapter_name=name)
        compat.activate_loras(unet, name, {})
    compat.remove_lora(unet, "lora1")
    assert compat.has_lora(unet, "lora0")
    compat.remove_lora(unet, "lora0")
    after = dict(unet.named_modules())
    assert after.keys() == before.keys()
    assert all(after[name] is module for name, module in before.items())
    assert (hasattr(unet, "peft_config"), unet._hf_peft_config_loaded) == (False, False)


def test_get_delta_weight(unet: Any) -> None:
    tensors = lora(unet, "down_blocks.0.resnets.0.conv1")
    StableDiffusionPipeline.load_lora_into_unet(tensors, None, unet, adapter_name="a")
    compat.activate_loras(unet, "a", {"down_blocks.0.resnets.0.conv1": 2.0})
    layer = compat.lora_layers(unet)[0]
    down, up = tensors.values()
    expected = layer.get_base_layer().weight + 2 * torch.einsum("or,rihw->oihw", up[:, :, 0, 0], down)
    assert torch.allclose(compat.lora_delta(layer, layer.get_base_layer().weight), expected, atol=1e-5)


@pytest.mark.parametrize("kind", [StableDiffusionPipeline, StableDiffusionXLPipeline])
@pytest.mark.parametrize("name", ["load_lora_into_unet", "load_lora_into_text_encoder", "lora_state_dict"])
def test_lora_methods_of_pipelines(kind: Any, name: str) -> None:
    parameters = inspect.signature(getattr(kind, name)).parameters
    assert name == "lora_state_dict" or {"state_dict", "network_alphas", "adapter_name"} <= set(parameters)


def test_parameters_of_a_shallow_copy() -> None:
    layer = nn.Linear(3, 2)
    weight = layer.weight
    twin = compat.with_parameters(layer, weight=torch.zeros(2, 3))
    assert not twin.weight.any()
    assert layer.weight is weight
    assert twin.bias is layer.bias


def test_module_path_of_unet_2d_condition_output() -> None:
    assert compat.UNet2DConditionOutput(sample=torch.ones(1))[0] == 1
