"""LoRA files as tools write them: the same layers as plain diffusers, every tensor used or refused, exact undo."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from families import FAMILIES, Family, loaded_pipeline, make_family, tiny_pipeline
from lycoris_files import KINDS, golden
from lycoris_files import layers as lycoris_layers
from safetensors.torch import save_file
from tiny_adapters import lora_factors
from torch import Tensor

from linfusion_cli.engine.adapters.lora import Lora
from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.lora_layer_names import original_name
from linfusion_cli.weights.weight_file import WeightFile

pytestmark = pytest.mark.slow  # all of them together

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2.to_q"
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"
CONV = "mid_block.resnets.0.conv1"


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family("sd15", tmp_path_factory.mktemp("families") / "sd15")


@pytest.fixture
def pipeline(family: Family) -> Any:
    pipeline = loaded_pipeline(family)
    pipeline.unet.requires_grad_(False)
    return pipeline


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> str:
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata)
    return str(path)


def at(path: str) -> WeightFile:
    return WeightFile.resolve((path,), "", "lora")


def refusal(path: str, pipeline: Any) -> str:
    with pytest.raises(WeightsError) as caught:
        Lora.load(at(path), 1.0, 1.0, pipeline)
    message = str(caught.value)
    assert path in message
    assert len(message) <= 400 + len(path)
    assert "\n" not in message
    return message


def predicted(unet: Any) -> Tensor:
    torch.manual_seed(3)
    width = unet.config.cross_attention_dim
    with torch.no_grad():
        found: Tensor = unet(torch.randn(1, 4, 8, 8), 5, torch.randn(1, 4, width), return_dict=False)[0]
    return found


def ours(text: str, pipeline: Any) -> Tensor:
    lora = Lora.load(at(text), 1.0, 1.0, pipeline)
    lora.mount(pipeline.unet, 0)
    found = predicted(pipeline.unet)
    lora.unmount(pipeline.unet, 0)
    return found


def factors(pipeline: Any, name: str = LAYER) -> tuple[Tensor, Tensor]:
    torch.manual_seed(4)
    return lora_factors(pipeline.unet.get_submodule(name))


@pytest.mark.parametrize("rslora", [False, True])
def test_alpha_in_the_header_as_diffusers_saves_it(pipeline: Any, family: Family, tmp_path: Path, rslora: bool) -> None:
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    source = loaded_pipeline(family)
    config = LoraConfig(
        r=2, lora_alpha=16, target_modules=["to_q", "to_k"], use_rslora=rslora, alpha_pattern={"attn2.to_k": 5}
    )
    source.unet.add_adapter(config)
    for name, parameter in source.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    layers = get_peft_model_state_dict(source.unet)
    StableDiffusionPipeline.save_lora_weights(
        tmp_path, unet_lora_layers=layers, unet_lora_adapter_metadata=config.to_dict(), weight_name="a.safetensors"
    )
    found = ours(str(tmp_path / "a.safetensors"), pipeline)
    plain = predicted(pipeline.unet)
    pipeline.load_lora_weights(str(tmp_path), weight_name="a.safetensors")
    assert torch.allclose(found, predicted(pipeline.unet), atol=1e-5)
    assert not torch.allclose(found, plain, atol=1e-3)


def test_every_spelling_of_a_layer_is_the_same_lora(pipeline: Any, tmp_path: Path) -> None:
    down, up = factors(pipeline)
    before = LAYER.replace(".to_q", ".processor.to_q_lora")
    sgm_dots = original_name(LAYER, 2, ())
    sgm = sgm_dots.replace(".", "_")
    stems = {
        f"unet.{LAYER}.lora_A.weight": f"unet.{LAYER}.lora_B.weight",
        f"unet.{before}.down.weight": f"unet.{before}.up.weight",
        f"{before}.down.weight": f"{before}.up.weight",
        f"base_model.model.{LAYER}.lora_A.weight": f"base_model.model.{LAYER}.lora_B.weight",
        f"lora_unet_{LAYER.replace('.', '_')}.lora_down.weight": f"lora_unet_{LAYER.replace('.', '_')}.lora_up.weight",
        f"lora_unet_{sgm}.lora_down.weight": f"lora_unet_{sgm}.lora_up.weight",
        f"diffusion_model.{sgm_dots}.lora_down.weight": f"diffusion_model.{sgm_dots}.lora_up.weight",
    }
    found = [ours(write(tmp_path / "a.safetensors", {a: down, b: up}), pipeline) for a, b in stems.items()]
    pipeline.unet.get_submodule(LAYER).weight.data += up @ down
    assert torch.allclose(found[0], predicted(pipeline.unet), atol=1e-5)
    assert all(torch.equal(one, found[0]) for one in found)


@pytest.mark.parametrize("kind", ["dora", "loha", "lokr", "ia3", "diff", "norm", "tucker"])
def test_lycoris_is_merged_and_taken_off_exactly(pipeline: Any, tmp_path: Path, kind: str) -> None:
    unet = pipeline.unet
    conv, linear, norm = (f"lora_unet_{name.replace('.', '_')}" for name in (CONV, LAYER, "mid_block.resnets.0.norm1"))
    torch.manual_seed(4)
    weight = unet.get_submodule(LAYER).weight
    out, width = weight.shape
    wide = unet.get_submodule(CONV).weight
    down, up = lora_factors(unet.get_submodule(LAYER))
    files: dict[str, dict[str, Tensor]] = {
        "dora": {
            f"{linear}.lora_down.weight": down,
            f"{linear}.lora_up.weight": up,
            f"{linear}.dora_scale": torch.rand(out, 1),
        },
        "loha": {
            f"{linear}.hada_w{i}_{j}": torch.randn((out, 2) if j == "a" else (2, width)) for i in "12" for j in "ab"
        },
        "lokr": {f"{linear}.lokr_w1": torch.randn(2, 2), f"{linear}.lokr_w2": torch.randn(out // 2, width // 2)},
        "ia3": {f"{linear}.weight": torch.randn(out), f"{linear}.on_input": torch.tensor(0)},
        "diff": {f"{conv}.diff": torch.randn_like(wide), f"{conv}.diff_b": torch.randn(len(wide))},
        "norm": {f"{norm}.w_norm": torch.randn(len(wide)), f"{norm}.b_norm": torch.randn(len(wide))},
        "tucker": {
            f"{conv}.lora_down.weight": torch.randn(2, wide.shape[1], 1, 1),
            f"{conv}.lora_mid.weight": torch.randn(2, 2, 3, 3),
            f"{conv}.lora_up.weight": torch.randn(len(wide), 2, 1, 1),
        },
    }
    path = write(tmp_path / "a.safetensors", files[kind])
    before, plain = dict(unet.named_modules()), predicted(unet)
    found = ours(path, pipeline)
    assert not torch.allclose(found, plain, atol=1e-3)
    after = dict(unet.named_modules())
    assert after.keys() == before.keys()
    assert all(after[name] is module for name, module in before.items())
    assert torch.equal(predicted(unet), plain)
    update = Lora.load(at(path), 1.0, 1.0, pipeline).updates[0]
    layer = unet.get_submodule(update.module)
    for name, value in update.merged(layer, 1.0).items():
        getattr(layer, name).data.copy_(value)
    assert torch.allclose(predicted(unet), found, atol=1e-5)  # the merged convolution lies otherwise in memory


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.covers("LoHa, LoKr, (IA)^3, full, norms, tucker, DoRA", "used, equal")
@torch.no_grad()
def test_files_of_lycoris_lora_do_what_its_own_modules_do(name: str, tmp_path: Path) -> None:
    """Every kind that it can train, on a convolution, linear layers, a norm and each text encoder; within 1e-5."""
    pipeline = tiny_pipeline(name)
    texts = {part: getattr(pipeline, part) for part in ("text_encoder", "text_encoder_2") if hasattr(pipeline, part)}
    every = golden(name)
    base = every.pop("base")
    for layer, module in lycoris_layers(pipeline).items():
        module.load_state_dict({key: base[key][layer] for key in module.state_dict()})
    assert set(every) == set(KINDS)
    for kind, found in every.items():
        for part, encoder in texts.items():
            setattr(pipeline, part, copy.deepcopy(encoder))
        path = write(tmp_path / f"{kind}.safetensors", found["file"])
        plain = {layer: module(found["inputs"][layer]) for layer, module in lycoris_layers(pipeline).items()}
        lora = Lora.load(at(path), 1.0, 1.0, pipeline)
        lora.mount_texts(pipeline, 0)
        lora.mount(pipeline.unet, 0)
        for layer, module in lycoris_layers(pipeline).items():
            ours, theirs = module(found["inputs"][layer]), found["outputs"][layer]
            assert torch.allclose(ours, theirs, atol=1e-5), f"{kind}: {layer} {(ours - theirs).abs().max()}"
            changed = not torch.allclose(ours, plain[layer], atol=1e-3)
            assert changed == (kind == "norm" or "norm" not in layer), f"{kind}: {layer}"
        lora.unmount(pipeline.unet, 0)


def test_several_files_on_one_layer_add_up_and_come_off(pipeline: Any, tmp_path: Path) -> None:
    unet, stem = pipeline.unet, f"lora_unet_{LAYER.replace('.', '_')}"
    down, up = factors(pipeline)
    diff = torch.randn_like(unet.get_submodule(LAYER).weight)
    plain, before = predicted(unet), dict(unet.named_modules())
    lora = write(tmp_path / "lora.safetensors", {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up})
    full = write(tmp_path / "full.safetensors", {f"{stem}.diff": diff})
    results = []
    for order in ((lora, full, lora), (full, lora, lora)):
        loras = [Lora.load(at(path), 1.0, 1.0, pipeline) for path in order]
        for number, one in enumerate(loras):
            one.mount(unet, number)
        results.append(predicted(unet))
        for number in reversed(range(3)):
            loras[number].unmount(unet, number)
        assert dict(unet.named_modules()) == before
        assert torch.equal(predicted(unet), plain)
    unet.get_submodule(LAYER).weight.data += diff + 2 * up @ down
    assert all(torch.allclose(one, predicted(unet), atol=1e-4) for one in results)


def test_lycoris_on_linfusions_projections(pipeline: Any, tmp_path: Path) -> None:
    unet, name = pipeline.unet, LAYER.replace("attn2", "attn1")
    linfusion = LinFusion.like(unet)
    linfusion.mount(unet)
    diff = torch.randn_like(unet.get_submodule(name).weight)
    path = write(tmp_path / "a.safetensors", {f"lora_unet_{name.replace('.', '_')}.diff": diff})
    lora = Lora.load(at(path), 1.0, 1.0, pipeline)
    lora.mount(unet, 0)
    found = predicted(unet)
    lora.unmount(unet, 0)
    unet.get_submodule(name).weight.data += diff
    assert torch.allclose(predicted(unet), found, atol=1e-6)


@pytest.mark.parametrize("stages", ["base", "upscale"])
def test_a_lora_of_some_stages_is_merged_whole(
    pipeline: Any, tmp_path: Path, stages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without peft, and without a layer beside another; what it gives is what the same LoRA gives in all stages."""
    unet = pipeline.unet
    tensors: dict[str, Tensor] = {}
    for name in (LAYER, CONV):
        down, up = factors(pipeline, name)
        tensors |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
    path = write(tmp_path / "a.safetensors", tensors)
    plain, printed, wanted = predicted(unet), repr(unet), ours(path, pipeline)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    lora = Lora.load(at(path), 1.0, 1.0, pipeline, stages)
    lora.mount(unet, 0)
    assert repr(unet) == printed
    assert torch.allclose(predicted(unet), wanted, atol=1e-5)
    assert not torch.allclose(wanted, plain, atol=1e-3)
    lora.unmount(unet, 0)
    assert torch.equal(predicted(unet), plain)


def test_text_encoders_have_a_weight_of_their_own(family: Family, tmp_path: Path) -> None:
    pipelines = [loaded_pipeline(family) for _ in range(2)]
    encoder = pipelines[0].text_encoder
    inner = TEXT if hasattr(encoder, "text_model") else TEXT.removeprefix("text_model.")
    down, up = lora_factors(encoder.get_submodule(inner))
    tensors = {f"text_encoder.{TEXT}.lora_A.weight": down, f"text_encoder.{TEXT}.lora_B.weight": up}
    unet_down, unet_up = factors(pipelines[0])
    tensors |= {f"unet.{LAYER}.lora_A.weight": unet_down, f"unet.{LAYER}.lora_B.weight": unet_up}
    path = write(tmp_path / "a.safetensors", tensors)
    lora = Lora.load(at(path), 0.0, 0.5, pipelines[0])
    plain = predicted(pipelines[0].unet)
    lora.mount(pipelines[0].unet, 0)
    assert torch.equal(predicted(pipelines[0].unet), plain)
    lora.mount_texts(pipelines[0], 0)
    pipelines[1].text_encoder.get_submodule(inner).weight.data += 0.5 * up @ down
    ids = torch.tensor([[0, 5, 6, 1]])
    one, two = (pipeline.text_encoder(ids)[0] for pipeline in pipelines)
    assert torch.allclose(one, two, atol=1e-5)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("bundle_emb.face.string_to_param.*", "embedding"),
        ("lora_unet_x.oft_blocks", "OFT"),
        ("lora_unet_x.a1.weight", "GLoRA"),
        ("lora_unet_no_such_layer.lora_down.weight", "no layer"),
        ("lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", "text_encoder_2"),
        (f"lora_unet_{LAYER.replace('.', '_')}.strange", "no kind"),
        ("foreign", "no kind"),
    ],
)
def test_one_foreign_tensor_is_named(pipeline: Any, tmp_path: Path, key: str, said: str) -> None:
    down, up = factors(pipeline)
    known = {f"unet.{LAYER}.lora_A.weight": down, f"unet.{LAYER}.lora_B.weight": up}
    message = refusal(write(tmp_path / "a.safetensors", {**known, key: torch.zeros(2, 2)}), pipeline)
    assert said in message
    assert key[:40] in message


def test_half_a_layer_is_named(pipeline: Any, tmp_path: Path) -> None:
    message = refusal(
        write(tmp_path / "a.safetensors", {f"unet.{LAYER}.lora_A.weight": factors(pipeline)[0]}), pipeline
    )
    assert "incomplete" in message


@pytest.mark.parametrize(
    ("alpha", "effect"), [(torch.tensor([4.0]), 2), (torch.tensor(4), 2), (torch.tensor(0.0), 0)], ids=str
)
def test_alpha_in_any_number_format(pipeline: Any, tmp_path: Path, alpha: Tensor, effect: float) -> None:
    """Zero is no effect, as in every tool that reads such a file."""
    (down, up), stem = factors(pipeline), f"lora_unet_{LAYER.replace('.', '_')}"
    tensors = {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": alpha}
    found = ours(write(tmp_path / "a.safetensors", tensors), pipeline)
    pipeline.unet.get_submodule(LAYER).weight.data += effect * up @ down
    assert torch.allclose(found, predicted(pipeline.unet), atol=1e-5)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("alpha", torch.tensor([1.0, 2.0]), "is 2 numbers instead of one"),
        ("alpha", torch.tensor(float("nan")), "not numbers"),
        ("lora_up.weight", torch.full((24, 2), float("inf")), "not numbers"),
    ],
)
@pytest.mark.covers("NaN in a LoRA", "refused", families=("sd15",))
def test_what_is_no_number_is_named(pipeline: Any, tmp_path: Path, key: str, value: Tensor, said: str) -> None:
    (down, up), stem = factors(pipeline), f"lora_unet_{LAYER.replace('.', '_')}"
    tensors = {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.{key}": value}
    assert said in refusal(write(tmp_path / "a.safetensors", tensors), pipeline)


def test_a_bias_beside_the_factors_as_comfyui_saves_it(pipeline: Any, tmp_path: Path) -> None:
    """Its LoraSave writes the difference of a bias as it is: alpha does not scale it."""
    layer = pipeline.unet.get_submodule(name := LAYER.replace("to_q", "to_out.0"))
    (down, up), bias = lora_factors(layer), torch.randn_like(layer.bias)
    stem = f"diffusion_model.{original_name(name, 2, ())}"
    tensors = {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.diff_b": bias}
    tensors[f"{stem}.alpha"] = torch.tensor(1.0)
    found = ours(write(tmp_path / "a.safetensors", tensors), pipeline)
    layer.weight.data += 0.5 * up @ down
    layer.bias.data += bias
    assert torch.allclose(found, predicted(pipeline.unet), atol=1e-5)


@pytest.mark.parametrize(
    "prefix", ["lora_te_text_model_", "text_encoder.text_model.", "text_encoders.clip_l.transformer.text_model."]
)
def test_a_lora_of_the_text_encoder_without_its_attention(family: Family, tmp_path: Path, prefix: str) -> None:
    pipelines, name = [loaded_pipeline(family) for _ in range(2)], "encoder.layers.0.mlp.fc1"
    layer = next(m for n, m in pipelines[1].text_encoder.named_modules() if n.endswith(name))
    (down, up), kohya = lora_factors(layer), prefix.endswith("_")
    stem = prefix + (name.replace(".", "_") if kohya else name)
    lora = write(tmp_path / "a.safetensors", {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up})
    Lora.load(at(lora), 1.0, 0.5, pipelines[0]).mount_texts(pipelines[0], 0)
    layer.weight.data += 0.5 * up @ down
    ids = torch.tensor([[0, 5, 6, 1]])
    one, two = (pipeline.text_encoder(ids)[0] for pipeline in pipelines)
    assert torch.allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"unet.lora_alpha": "much"})])
def test_a_damaged_configuration_in_the_header(pipeline: Any, tmp_path: Path, text: str) -> None:
    down, up = factors(pipeline)
    tensors = {f"unet.{LAYER}.lora_A.weight": down, f"unet.{LAYER}.lora_B.weight": up}
    assert "header" in refusal(write(tmp_path / "a.safetensors", tensors, {"lora_adapter_metadata": text}), pipeline)
