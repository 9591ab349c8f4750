"""Mounting LinFusion: equal to the official code, exactly undone, refused where it does not fit."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from golden import golden_unet, load_golden
from safetensors.torch import load_file, save_file
from torch import Tensor

from linfusion_cli.engine.attention.linfusion import CONFIG, WEIGHTS, LinFusion, self_attentions
from linfusion_cli.errors import WeightsError

FAMILIES = ["sd15", "sd21", "sdxl"]


def predict(unet: UNet2DConditionModel, tensors: dict[str, Tensor]) -> Tensor:
    added = {name: tensors[name] for name in ("text_embeds", "time_ids") if name in tensors}
    with torch.no_grad():
        return unet(
            tensors["sample"], tensors["timestep"], tensors["encoder_hidden_states"], added_cond_kwargs=added
        ).sample


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.covers("LinFusion weights (linear attention)", "official")
def test_equals_the_official_code(family: str, data: Path) -> None:
    tensors, config = load_golden(data / f"unet_{family}.safetensors")
    unet = golden_unet(tensors, config)
    LinFusion.load(data / f"linfusion_{family}").mount(unet)
    assert torch.allclose(predict(unet, tensors), tensors["noise_pred"], atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_unmount_is_the_exact_inverse(family: str, data: Path) -> None:
    tensors, config = load_golden(data / f"unet_{family}.safetensors")
    unet = golden_unet(tensors, config)
    printed, modules, before = repr(unet), self_attentions(unet), predict(unet, tensors)
    linfusion = LinFusion.load(data / f"linfusion_{family}")
    for _ in range(2):
        linfusion.mount(unet)
        assert repr(unet) != printed
        assert not torch.equal(predict(unet, tensors), before)
        linfusion.unmount(unet)
        assert repr(unet) == printed
        assert all(module is modules[name] for name, module in self_attentions(unet).items())
        assert torch.equal(predict(unet, tensors), before)


def test_mounting_twice_is_refused(data: Path) -> None:
    unet = golden_unet(*load_golden(data / "unet_sd15.safetensors"))
    linfusion = LinFusion.load(data / "linfusion_sd15")
    linfusion.mount(unet)
    with pytest.raises(RuntimeError, match="unmount first"):
        linfusion.mount(unet)


def test_save_writes_what_load_reads(data: Path, tmp_path: Path) -> None:
    linfusion = LinFusion.load(data / "linfusion_sdxl")
    linfusion.save(tmp_path)
    theirs, ours = load_file(data / "linfusion_sdxl" / WEIGHTS), load_file(tmp_path / WEIGHTS)
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    assert LinFusion.load(tmp_path).specs == linfusion.specs


def test_a_save_that_fails_keeps_the_weights_before(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linfusion = LinFusion.load(data / "linfusion_sd15")
    linfusion.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*args: object) -> None:
        Path(str(args[1])).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("linfusion_cli.engine.attention.linfusion.save_file", full)
    with pytest.raises(OSError, match="No space"):
        linfusion.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_weights_of_another_family_name_the_first_module_that_differs(data: Path) -> None:
    unet = golden_unet(*load_golden(data / "unet_sd15.safetensors"))
    with pytest.raises(WeightsError, match=r"down_blocks\.0\.attentions\.0\.transformer_blocks\.0\.attn1"):
        LinFusion.load(data / "linfusion_sdxl").mount(unet)


def test_damaged_files_are_refused(data: Path, tmp_path: Path) -> None:
    linfusion = LinFusion.load(data / "linfusion_sd15")
    linfusion.save(tmp_path)
    weights = load_file(tmp_path / WEIGHTS)
    save_file({name: value for name, value in weights.items() if name != "1.to_k.weight"}, tmp_path / WEIGHTS)
    with pytest.raises(WeightsError, match=r"1\.to_k\.weight is missing"):
        LinFusion.load(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"short")
    with pytest.raises(WeightsError, match="cut off within its header"):
        LinFusion.load(tmp_path)
    (tmp_path / CONFIG).write_text("{}")
    with pytest.raises(WeightsError, match="not a LinFusion config"):
        LinFusion.load(tmp_path)


def test_like_starts_from_the_projections_of_the_unet(data: Path) -> None:
    unet = golden_unet(*load_golden(data / "unet_sdxl.safetensors"))
    linfusion = LinFusion.like(unet, mid_dim_scale=16)
    originals = list(self_attentions(unet).values())
    assert [spec.mid_dim for spec in linfusion.specs] == [2] * 8
    for attention, original in zip(linfusion.attentions, originals, strict=True):
        assert torch.equal(attention.to_q.weight, original.to_q.weight)
        assert torch.equal(attention.to_out[0].bias, original.to_out[0].bias)
        x = torch.randn(3, attention.to_q.in_features)
        assert torch.equal(attention.to_q_(x), torch.zeros_like(x))
    linfusion.mount(unet)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.covers("`--keep-projections` for fine-tunes", "changes")
def test_keeping_projections_takes_only_f_from_the_file(family: str, data: Path) -> None:
    tensors, config = load_golden(data / f"unet_{family}.safetensors")
    unet = golden_unet(tensors, config)
    printed, before, weights = repr(unet), predict(unet, tensors), load_file(data / f"linfusion_{family}" / WEIGHTS)
    linfusion = LinFusion.load(data / f"linfusion_{family}", keep_projections=True)
    for _ in range(2):
        originals = self_attentions(unet)
        linfusion.mount(unet)
        for index, (name, attention) in enumerate(self_attentions(unet).items()):
            assert attention.to_q is originals[name].to_q
            assert attention.to_out[0] is originals[name].to_out[0]
            assert torch.equal(attention.to_q_[0].weight, weights[f"{index}.to_q_.0.weight"])
        kept = predict(unet, tensors)
        linfusion.unmount(unet)
        assert repr(unet) == printed
        assert torch.equal(predict(unet, tensors), before)
    whole = LinFusion.load(data / f"linfusion_{family}")
    whole.mount(unet)
    assert not torch.equal(predict(unet, tensors), kept)
    assert torch.equal(linfusion.attentions[0].to_q.weight, whole.attentions[0].to_q.weight)
