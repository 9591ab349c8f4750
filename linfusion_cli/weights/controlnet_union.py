"""ControlNet-union (xinsir, SD-XL): one network for several kinds of control images, told apart by a mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linfusion_cli.errors import WeightsError, option
from linfusion_cli.weights.safetensors_header import TensorInfo

CLASSES = ("ControlNetUnionModel", "ControlNetModel_Union", "ControlNetModel")  # its configs say one of these
MARK = "task_embedding"  # (modes, channels): its own tensor
NO_MODE = "none"
# The names of each mode, in the order of the networks; the last two are of "promax" files alone.
MODES = (
    ("openpose",),
    ("depth",),
    ("hed", "pidi", "scribble", "ted"),
    ("canny", "lineart", "anime_lineart", "mlsd"),
    ("normal",),
    ("segment",),
    ("tile",),
    ("repaint",),
)


MODE_NUMBERS = {name: index for index, names in enumerate(MODES) for name in (*names, str(index))}


def is_union(tensors: Mapping[str, object]) -> bool:
    """Whether the tensors are those of a ControlNet-union."""
    return MARK in tensors


def union_settings(tensors: Mapping[str, TensorInfo]) -> dict[str, Any]:
    """What the shapes of its tensors tell of its config."""
    modes, channels = (*tensors[MARK].shape, 0)[:2]
    layers = {name.split(".")[1] for name in tensors if name.startswith("transformer_layes.")}
    projection = tensors.get("spatial_ch_projs.weight")
    return {
        "num_control_type": modes,
        "num_trans_channel": channels,
        "num_trans_layer": len(layers),
        "num_proj_channel": projection.shape[0] if projection else channels,
    }


def embedding_settings(tensors: Mapping[str, TensorInfo]) -> dict[str, Any]:
    """The widths of the embedding of a control image, of a ControlNet under the names of diffusers; {} of others."""
    stem, widths = "controlnet_cond_embedding", list[int]()
    names = [f"{stem}.conv_in.weight", *(f"{stem}.blocks.{i}.weight" for i in range(1, 2 * len(tensors), 2))]
    for name in names:
        if name not in tensors or not tensors[name].shape:
            break
        widths.append(tensors[name].shape[0])
    return {"conditioning_embedding_out_channels": widths} if widths else {}


def check_mode(tensors: Mapping[str, TensorInfo], mode: int | None, source: object) -> None:
    """Raises WeightsError for a mode of a plain ControlNet, and for one that a ControlNet-union lacks, or does not get.

    mode: its number, None for none
    """
    if not is_union(tensors):
        if mode is not None:
            what = f"{source}: no ControlNet-union: it has no modes. Allowed: "
            raise WeightsError(what, option("control_modes", NO_MODE), parameter="controlnets")
        return
    count = min(tensors[MARK].shape[0], len(MODES))
    allowed = ", ".join("/".join(names) for names in MODES[:count])
    if mode is None:
        what = f"{source}: a ControlNet-union, which has to be told what its image shows, for example "
        raise WeightsError(what, option("control_modes", "canny"), f". Allowed: {allowed}", parameter="controlnets")
    if mode >= count:
        what = f"{source}: has {count} modes, and none for {MODES[mode][0]}. Allowed: {allowed}"
        raise WeightsError(what, parameter="control_modes")
