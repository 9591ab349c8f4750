"""Tiny networks with random weights: a UNet of each family, an autoencoder."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from golden import golden_unet, load_golden
from torch import Tensor

from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.geometry import Band
from linfusion_cli.planning.memory_budget import Keep
from linfusion_cli.planning.model_shapes import UNetShape, _unet_shape, family_architecture
from linfusion_cli.weights.families import FAMILY_ROWS

DATA = Path(__file__).parent / "data"
KEEPS: list[tuple[Keep, ...]] = [
    ("all",) * 3,
    ("sums", "all", "all"),
    ("sums",) * 3,
    ("nothing", "all", "all"),
    ("nothing", "nothing", "sums"),
]
UNETS: dict[str, tuple[UNet2DConditionModel, dict[str, Tensor]]] = {}


def mounted(family: str) -> tuple[UNet2DConditionModel, dict[str, Tensor]]:
    """A tiny UNet of the family with random LinFusion weights, in float64, and the recorded inputs."""
    if family not in UNETS:
        tensors, config = load_golden(DATA / f"unet_{family}.safetensors")
        unet = golden_unet(tensors, config)
        LinFusion.load(DATA / f"linfusion_{family}").mount(unet)
        UNETS[family] = unet.double(), tensors
    return UNETS[family]


def shape_of(family: str) -> UNetShape:
    """The shape of the tiny UNet of a family."""
    _, config = load_golden(DATA / f"unet_{family}.safetensors")
    like = family_architecture(family).unet
    return _unet_shape(config["unet_config"], FAMILY_ROWS[family], like.parameters, like.linear_parameters)


def tiny_vae(*, attention: bool = False, levels: int = 3) -> AutoencoderKL:
    torch.manual_seed(levels)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8, 12, 16, 20)[:levels],
        layers_per_block=1,
        norm_num_groups=4,
        mid_block_add_attention=attention,
    )
    with torch.no_grad():
        for parameter in vae.parameters():  # norms away from 1 and 0
            parameter.add_(0.1 * torch.randn_like(parameter))
    return vae.eval()


def limited(compute, rows: int):  # type: ignore[no-untyped-def]
    """Wraps a row source's compute: more than `rows` rows at once raise torch.OutOfMemoryError."""

    def of_a_field(self: object, band: Band) -> Tensor:
        if band.height > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return compute(self, band)  # type: ignore[no-any-return]

    return of_a_field
