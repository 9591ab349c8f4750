"""LoRA files that peft and diffusers save: the outputs of the very model that was saved, or a refusal by name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from families import Family, loaded_pipeline, make_family
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from linfusion_cli.engine.adapters.lora import Lora
from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.weight_file import WeightFile

ATTENTION = ["to_q", "to_k", "to_out.0"]
WHOLE_UNET = ["conv1", "conv_shortcut", "conv_in", "conv_out", "proj_in", "proj_out", "time_emb_proj", "linear_1"]
CASES: dict[str, dict[str, Any]] = {
    "ranks and alphas by layer": {"rank_pattern": {"to_k": 3}, "alpha_pattern": {"to_k": 1}},
    "one layer's alpha": {"alpha_pattern": {"^mid_block.attentions.0.transformer_blocks.0.attn1.to_q": 1}},
    "rank-stabilised": {"use_rslora": True},
    "biases": {"lora_bias": True},
    "DoRA": {"use_dora": True},
    "DoRA of convolutions": {"use_dora": True, "target_modules": ["conv1", "conv2", "to_q"]},
    "every kind of layer": {"target_modules": WHOLE_UNET},
    "bfloat16": {"dtype": torch.bfloat16},
    "float8": {"dtype": torch.float8_e4m3fn},
}


@pytest.fixture(scope="module", params=["sd15", pytest.param("sd21", marks=pytest.mark.slow), "sdxl"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(request.param, tmp_path_factory.mktemp(request.param) / "all")


def adapt(model: Any, dtype: torch.dtype = torch.float32, **settings: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Puts a random LoRA of peft on a model; gives its tensors and its configuration, which a file gets."""
    config = LoraConfig(**{"r": 2, "lora_alpha": 6, **settings})
    model.add_adapter(config)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            scale = 0.5 + torch.rand_like(parameter) if "magnitude" in name else torch.randn_like(parameter) * 0.2
            parameter.data.copy_(scale.to(dtype))
    return {name: value.to(dtype) for name, value in get_peft_model_state_dict(model).items()}, config.to_dict()


def save(pipeline: Any, folder: Path, **settings: Any) -> WeightFile:
    """Puts a LoRA on the UNet and the text encoders and saves it as diffusers does."""
    given: dict[str, Any] = {}
    parts = [name for name in ("unet", "text_encoder", "text_encoder_2") if hasattr(pipeline, name)]
    for part in parts:
        own = {"target_modules": ATTENTION, **settings}
        if part != "unet":
            own = {key: value for key, value in own.items() if not key.endswith("_pattern")}
            own["target_modules"] = ["q_proj", "out_proj", "fc1"]
        tensors, config = adapt(getattr(pipeline, part), **own)
        given |= {f"{part}_lora_layers": tensors, f"{part}_lora_adapter_metadata": config}
    type(pipeline).save_lora_weights(folder, weight_name="a.safetensors", **given)
    return WeightFile.resolve((str(folder / "a.safetensors"),), "", "lora")


def outputs(pipeline: Any) -> list[Tensor]:
    """Of the UNet and of each text encoder."""
    torch.manual_seed(3)
    width, more = pipeline.unet.config.cross_attention_dim, {}
    if hasattr(pipeline, "text_encoder_2"):
        more = {"added_cond_kwargs": {"text_embeds": torch.randn(1, 24), "time_ids": torch.randn(1, 6)}}
    sample, text = torch.randn(1, 4, 8, 8), torch.randn(1, 4, width)
    with torch.no_grad():
        found = [pipeline.unet(sample, 5, text, return_dict=False, **more)[0]]
        encoders = [getattr(pipeline, name) for name in ("text_encoder", "text_encoder_2") if hasattr(pipeline, name)]
        return found + [encoder(torch.arange(77)[None], output_hidden_states=True)[0] for encoder in encoders]


@pytest.mark.filterwarnings("ignore:`lora_bias=True` was passed")  # for layers without a bias, which get one
@pytest.mark.filterwarnings("ignore:Adapter 'default'. .* LoRA tensor.s. have invalid shape")  # takes biases for shards
@pytest.mark.parametrize("case", CASES)
@pytest.mark.covers(
    "LoRAs of peft and diffusers: ranks and alphas by layer, rsLoRA, biases, DoRA, all kinds of layers", "used, equal"
)
def test_a_file_gives_the_model_that_was_saved(family: Family, tmp_path: Path, case: str) -> None:
    saved, pipeline = loaded_pipeline(family), loaded_pipeline(family)
    file, plain = save(saved, tmp_path, **CASES[case]), outputs(pipeline)
    lora = Lora.load(file, 1.0, 1.0, pipeline)
    lora.mount(pipeline.unet, 0)
    lora.mount_texts(pipeline, 0)
    for ours, theirs, before in zip(outputs(pipeline), outputs(saved), plain, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)
        assert not torch.allclose(ours, before, atol=1e-2)


def test_a_file_of_the_model_itself_has_the_adapter_s_name_in_each_tensor(family: Family, tmp_path: Path) -> None:
    """Saved by safetensors from the state of a model with a peft adapter: lora_A.default.weight."""
    saved, pipeline = loaded_pipeline(family), loaded_pipeline(family)
    adapt(saved.unet, target_modules=ATTENTION, lora_alpha=2)
    tensors = {f"unet.{name}": value for name, value in saved.unet.state_dict().items() if ".lora_" in name}
    save_file(tensors, tmp_path / "a.safetensors")
    lora = Lora.load(WeightFile.resolve((str(tmp_path / "a.safetensors"),), "", "lora"), 1.0, 1.0, pipeline)
    lora.mount(pipeline.unet, 0)
    assert torch.allclose(outputs(pipeline)[0], outputs(saved)[0], atol=1e-4)


@pytest.mark.parametrize("kind", ["pissa", "pissa_niter_4", "olora"])
@pytest.mark.covers("LoRAs that changed their model (PiSSA, OLoRA)", "refused")
def test_a_lora_that_changed_its_model_is_refused(family: Family, tmp_path: Path, kind: str) -> None:
    file = save(loaded_pipeline(family), tmp_path, init_lora_weights=kind)
    with pytest.raises(WeightsError, match=f"trained from {kind}, which changed the model's own weights"):
        Lora.load(file, 1.0, 1.0, loaded_pipeline(family))
