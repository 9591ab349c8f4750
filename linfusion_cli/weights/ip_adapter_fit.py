"""Whether the cross-attentions of an IP-Adapter are those of a UNet, by header and config, before the plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.config_shapes import difference
from linfusion_cli.weights.layer_shapes import Shapes
from linfusion_cli.weights.safetensors_header import Header
from linfusion_cli.weights.unet_shapes import unet_shapes

PREFIX, READS = "ip_adapter.", ".attn2.to_k.weight"
SIDES = ("down_blocks", "up_blocks", "mid_block")  # the order in which diffusers numbers them


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
