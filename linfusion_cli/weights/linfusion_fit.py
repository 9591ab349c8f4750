"""Whether linear attention is for a UNet, by its config.json and the UNet's config: what loading says, before it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.pipeline_settings import read_json_object
from linfusion_cli.weights.unet_shapes import unet_shapes

QUERY = ".to_q.weight"


def check_linfusion_fit(folder: Path, unet: Mapping[str, Any]) -> None:
    """Raises WeightsError naming the first self-attention of the UNet that the weights in a folder do not fit.

    A folder without a list of modules is left to loading.
    """
    path = folder / "config.json"
    modules = read_json_object(path).get("modules_list") if path.is_file() else None
    if not isinstance(modules, list) or not all(isinstance(one, dict) for one in modules):
        return
    shapes = unet_shapes(unet, folder)
    own = {name.removesuffix(QUERY): shape[0] for name, shape in shapes.items() if name.endswith(f".attn1{QUERY}")}
    file = {str(one.get("module_name")): one.get("dim_n") for one in modules}
    for name in (*own, *file):
        if name not in own or name not in file:
            what = f"the {'UNet' if name in own else 'file'} alone has {name}"
        elif own[name] != file[name]:
            what = f"{name} has {file[name]} channels, the UNet {own[name]}"
        else:
            continue
        raise WeightsError(f"{folder}: LinFusion weights of another model: {what}"[:400], parameter="linfusion")
