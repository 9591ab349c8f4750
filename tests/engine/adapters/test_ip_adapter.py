"""CLIP's input of an image equals transformers' Pillow processor's; the UNet's conditioning equals diffusers'."""

from pathlib import Path

import numpy as np
import pytest
import torch
from families import Family, loaded_pipeline, make_family
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_adapters import save_ip_adapter
from transformers import CLIPImageProcessorPil

from linfusion_cli.engine.adapters.ip_adapter import IPAdapter, clip_pixels
from linfusion_cli.weights.weight_file import WeightFile


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family("sd15", tmp_path_factory.mktemp("family") / "all")


@pytest.mark.slow
@pytest.mark.parametrize("size", [(224, 224), (640, 480), (481, 640), (333, 100), (50, 51), (1023, 769)])
@pytest.mark.parametrize("side", [224, 336])
def test_images_are_prepared_as_transformers_does(size: tuple[int, int], side: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    wanted = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    ours = clip_pixels(pixels.astype(np.float32) / 255, side)
    assert ours.shape == wanted.shape == (1, 3, side, side)
    assert torch.allclose(ours, wanted, atol=1e-5)


def full_adapter(folder: Path) -> None:
    """Makes the plain adapter of a folder one that reads hidden states through two layers, as ip-adapter-full does."""
    tensors = load_file(folder / "ip-adapter.safetensors")
    width, hidden = tensors["image_proj.norm.weight"].shape[0], 16
    tensors = {name: tensor for name, tensor in tensors.items() if name.startswith("ip_adapter.")}
    for layer, shape in (("0", (hidden, hidden)), ("2", (width, hidden))):
        tensors |= {
            f"image_proj.proj.{layer}.weight": torch.randn(shape),
            f"image_proj.proj.{layer}.bias": torch.zeros(shape[0]),
        }
    tensors |= {"image_proj.proj.3.weight": torch.ones(width), "image_proj.proj.3.bias": torch.zeros(width)}
    save_file(tensors, folder / "ip-adapter.safetensors")


def found(folder: Path) -> tuple[WeightFile, WeightFile]:
    """The adapter in a folder, and its image encoder."""
    encoder = WeightFile.resolve((str(folder / "image_encoder"),), "", "ip_encoder")
    return WeightFile.resolve((str(folder),), "", "ip_adapter"), encoder


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True])
def test_the_unet_is_told_what_diffusers_tells_it(family: Family, full: bool, tmp_path: Path) -> None:
    pipeline = loaded_pipeline(family)
    folder = save_ip_adapter(pipeline, tmp_path / "ip")
    if full:
        full_adapter(folder)
    adapter = IPAdapter.load(*found(folder), pipeline, 0.7, torch.float32)
    images = [np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8) for seed in (1, 2)]
    positive, negative = adapter.embed(pipeline, images, torch.device("cpu"))
    adapter.mount(pipeline.unet)
    pixels = torch.cat([clip_pixels(image, 32) for image in images])
    with torch.inference_mode():
        wanted = pipeline.prepare_ip_adapter_image_embeds([pixels], None, torch.device("cpu"), 1, True)[0]
    assert torch.equal(torch.cat([negative, positive]), wanted)
    assert positive.ndim == (4 if full else 3)
    assert {
        tuple(processor.scale) for processor in pipeline.unet.attn_processors.values() if hasattr(processor, "scale")
    } == {(0.7,)}


@pytest.mark.slow
def test_what_was_mounted_comes_off_and_goes_on_again(family: Family, tmp_path: Path) -> None:
    pipeline = loaded_pipeline(family)
    before, printed = pipeline.unet.attn_processors, repr(pipeline.unet)
    adapter = IPAdapter.load(*found(save_ip_adapter(pipeline, tmp_path / "ip")), pipeline, 1.0, torch.float32)
    for _ in range(2):
        adapter.mount(pipeline.unet)
        assert pipeline.unet.config.encoder_hid_dim_type == "ip_image_proj"
        adapter.unmount(pipeline.unet)
        after = pipeline.unet.attn_processors
        assert all(after[name] is before[name] for name in before)
        assert repr(pipeline.unet) == printed
