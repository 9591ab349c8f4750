"""Each naming that a file may have becomes the names of diffusers, and no tensor is lost on the way."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from families import FAMILIES, tiny_pipeline, tiny_unet
from original_layout import ldm_unet, ldm_vae, open_clip
from torch import Tensor

from linfusion_cli.engine.loading.conversions import CONVERSIONS, to_diffusers
from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.single_file_layouts import Named, Naming

pytestmark = pytest.mark.slow  # all of them together

UNET = "model.diffusion_model."
PATH = Path("model.safetensors")


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value.contiguous() for name, value in tensors.items()}


def same(found: dict[str, Tensor], model: Any) -> bool:
    wanted = model.state_dict()
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_every_naming_has_a_conversion() -> None:
    assert CONVERSIONS.keys() == set(get_args(Naming))


@pytest.mark.parametrize("prefix", ["", UNET, "other."])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_unet_in_either_naming(family: str, prefix: str) -> None:
    unet = tiny_unet(family)
    config = dict(unet.config)
    assert same(to_diffusers(prefixed(prefix, ldm_unet(unet)), Named(prefix, "ldm_unet"), config, PATH), unet)
    assert same(to_diffusers(prefixed(prefix, unet.state_dict()), Named(prefix, "diffusers"), config, PATH), unet)


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_an_autoencoder(prefix: str) -> None:
    vae = tiny_pipeline("sd15").vae
    assert same(to_diffusers(prefixed(prefix, ldm_vae(vae)), Named(prefix, "ldm_vae"), dict(vae.config), PATH), vae)


def test_a_text_encoder_of_openclip_without_its_last_layers() -> None:
    encoder = tiny_pipeline("sdxl").text_encoder_2
    given = prefixed("x.", open_clip(encoder))
    given["x.transformer.resblocks.2.ln_1.weight"] = torch.ones(1)  # the model reads the output of the layer before
    found = to_diffusers(given, Named("x.", "open_clip"), encoder.config.to_dict(), PATH)
    assert {name.removeprefix("text_model.") for name in found} == {
        name.removeprefix("text_model.") for name in encoder.state_dict()
    }


def test_a_tensor_that_the_conversion_would_lose_is_named() -> None:
    unet = tiny_unet("sd15")
    given = prefixed(UNET, ldm_unet(unet))
    with pytest.raises(WeightsError, match=r"model\.diffusion_model\.odd"):
        to_diffusers(given | {f"{UNET}odd": torch.ones(1)}, Named(UNET, "ldm_unet"), dict(unet.config), PATH)


@pytest.mark.parametrize("naming", ["ldm_unet", "open_clip"])
def test_another_architecture_is_named(naming: Naming) -> None:
    given = prefixed(UNET, ldm_unet(tiny_unet("sd15")))
    with pytest.raises(WeightsError, match=r"model\.safetensors: has other layers than its config"):
        to_diffusers(given, Named(UNET, naming), {}, PATH)
