"""Whether a LoRA fits a model whose files are in diffusers layout, by their headers: what loading says, before it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.families import FAMILY_ROWS
from linfusion_cli.weights.layer_shapes import Shape
from linfusion_cli.weights.lora_layer_names import TEXTS, UNET, aliases, kind_of_update, layers_of
from linfusion_cli.weights.lora_shapes import misfit
from linfusion_cli.weights.model_family import FAMILY_NAMES, OF_TEXT_DIM, Tensors
from linfusion_cli.weights.pipeline_settings import read_json_object
from linfusion_cli.weights.safetensors_header import Header
from linfusion_cli.weights.unet_file import unet_folder
from linfusion_cli.weights.weight_file import WeightFile

WEIGHT, MARK = ".weight", "conv_in.weight"  # the mark of a UNet in the names of diffusers


def check_lora_fit(lora: Header, model: WeightFile, unet: WeightFile | None, family: str) -> None:
    """Raises WeightsError, as loading does, for a LoRA with a layer that the model lacks, or has in another size.

    A model in one file, or one that is not whole on this machine, is left to loading. unet: the one in use in place of
    the model's
    """
    parts = _layers(model, unet, two=FAMILY_ROWS[family].two_text_encoders)
    if not parts:
        return
    drawing = unet if unet is not None else model
    blocks = int(read_json_object(unet_folder(drawing.open()) / "config.json").get("layers_per_block", 2))
    names = {part: aliases(part, layers, blocks) for part, layers in parts.items()}
    for (part, module), keys in layers_of(lora.tensors, names, lora.path).items():
        shapes = {name: lora.tensors[key].shape for name, key in keys.items()}
        check_layer(part, module, shapes, parts[part][module], lora)


def check_layer(part: str, module: str, shapes: Mapping[str, Shape], weight: Shape, lora: Header) -> None:
    """Raises WeightsError if the tensors for one layer, by canonical name, do not fit its weight."""
    alpha = shapes.get("alpha", ())
    if math.prod(alpha) != 1:
        what = f"the alpha of {part}.{module} is {math.prod(alpha)} numbers instead of one"
        raise WeightsError(f"{lora.path}: {what}", parameter="loras")
    own = {name: shape for name, shape in shapes.items() if name != "alpha"}
    kind = kind_of_update(own, f"{part}.{module}", lora.path)
    if why := misfit(kind, own, weight):
        raise other_model(lora.path, f"{part}.{module} {why}", family_of_widths(_text_widths(lora)))


def other_model(path: Path, what: str, family: str) -> WeightsError:
    """What to say of a LoRA whose layer does not fit. family: of the LoRA, "" if its layers do not tell."""
    of = f" (of {FAMILY_NAMES.get(family, family)})" if family else ""
    return WeightsError(f"{path}: for another model{of}: {what}", parameter="loras")


def family_of_widths(widths: list[int]) -> str:
    """The family whose text has the first of these widths; "" for none."""
    return OF_TEXT_DIM.get(next(iter(widths), 0), "")


def _text_widths(lora: Header) -> list[int]:
    ends = ("attn2.to_k.lora_A.weight", "attn2_to_k.lora_down.weight", "attn2.to_k.lora.down.weight")
    return [info.shape[1] for name, info in lora.tensors.items() if name.endswith(ends) and len(info.shape) > 1]


def _layers(model: WeightFile, unet: WeightFile | None, *, two: bool) -> dict[str, dict[str, Shape]]:
    """The shapes of each part's weights by layer; {} where one of the parts is not there in diffusers' names."""
    drawing = unet if unet is not None else model
    if model.path is None or drawing.path is None or not drawing.path.is_dir() or MARK not in drawing.unet_tensors:
        return {}
    found = {UNET: _weights(drawing.unet_tensors)}
    for text in TEXTS[: 2 if two else 1]:
        tensors = {
            name: info for header in model.headers_of(model.path / text) for name, info in header.tensors.items()
        }
        found[text] = _weights(tensors)
    return found if all(found.values()) else {}


def _weights(tensors: Tensors) -> dict[str, Shape]:
    return {name.removesuffix(WEIGHT): info.shape for name, info in tensors.items() if name.endswith(WEIGHT)}
