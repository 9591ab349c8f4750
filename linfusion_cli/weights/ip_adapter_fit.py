"""Whether the cross-attentions of an IP-Adapter are those of a UNet, by header and config, before the plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.config_shapes import difference
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.layer_shapes import Shapes
from linfusion_cli.weights.safetensors_header import Header
from linfusion_cli.weights.unet_shapes import unet_shapes

PREFIX, READS, PROJECTION = "ip_adapter.", ".attn2.to_k.weight", "image_proj."
_PARTS = ("weight", "bias")
# The tensors of each kind of projection that diffusers knows, by the one that tells the kind: plain, full, plus.
KINDS: dict[str, tuple[str, ...]] = {
    "proj.weight": tuple(f"{name}.{part}" for name in ("proj", "norm") for part in _PARTS),
    "proj.0.weight": tuple(f"proj.{number}.{part}" for number in (0, 2, 3) for part in _PARTS),
    "latents": ("latents", *(f"{name}.{part}" for name in ("proj_in", "proj_out", "norm_out") for part in _PARTS)),
}
_ATTENTION = (
    "norm1.weight",
    "norm1.bias",
    "norm2.weight",
    "norm2.bias",
    "to_q.weight",
    "to_kv.weight",
    "to_out.weight",
)
_LAYER = (*(f"0.{name}" for name in _ATTENTION), "1.0.weight", "1.0.bias", "1.1.weight", "1.3.weight")  # of "plus"
SIDES = ("down_blocks", "up_blocks", "mid_block")  # the order in which diffusers numbers them


def check_projection(header: Header) -> None:
    """Raises WeightsError that names the file and a tensor of its projection that is missing, or of no known kind."""
    names = [name.removeprefix(PROJECTION) for name in header.tensors if name.startswith(PROJECTION)]
    kind = next((mark for mark in KINDS if mark in names), "")
    expected = set(KINDS.get(kind, ()))
    if kind == "latents":
        layers = {name.split(".")[1] for name in names if name.startswith("layers.")}
        expected |= {f"layers.{number}.{name}" for number in layers for name in _LAYER}
    for name in (*sorted(expected), *names):
        if name not in expected or name not in names:
            what = "is missing" if name in expected else "is of no kind that linfusion knows (plain, plus, full)"
            raise WeightsError(f"{header.path}: its tensor {PROJECTION}{shown(name)} {what}", parameter="ip_adapter")


def check_ip_adapter_fit(header: Header, unet: Mapping[str, Any]) -> None:
    """Raises WeightsError that names the file and the first tensor that the UNet of a checked config has no use for."""
    shapes = unet_shapes(unet, header.path)
    expected: Shapes = {}
    for number, shape in enumerate(shapes[name] for side in SIDES for name in shapes if _crosses(name, side)):
        for part in ("to_k_ip", "to_v_ip"):
            expected[f"{PREFIX}{2 * number + 1}.{part}.weight"] = shape
    given = {name: info.shape for name, info in header.tensors.items() if name.startswith(PREFIX)}
    if what := difference(expected, given):
        raise WeightsError(f"{header.path}: for another model, or incomplete: {what}", parameter="ip_adapter")


def _crosses(name: str, side: str) -> bool:
    return name.startswith(side) and name.endswith(READS)
