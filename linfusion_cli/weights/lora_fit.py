"""Whether a LoRA fits a model, by its header and the model's configs: what loading says, before it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.layer_shapes import Shape, Shapes
from linfusion_cli.weights.lora_config import LoraConfig
from linfusion_cli.weights.lora_layer_names import TEXTS, UNET, aliases, kind_of_update, layers_of
from linfusion_cli.weights.lora_shapes import misfit
from linfusion_cli.weights.model_family import FAMILY_NAMES, OF_TEXT_DIM
from linfusion_cli.weights.part_shapes import text_encoder_shapes
from linfusion_cli.weights.pipeline_settings import read_json_object
from linfusion_cli.weights.safetensors_header import Header
from linfusion_cli.weights.unet_shapes import UNET_DEFAULTS, unet_shapes

WEIGHT = ".weight"


def check_lora_fit(lora: Header, unet: Mapping[str, Any], configs: Path, *, two_text_encoders: bool) -> None:
    """Raises WeightsError, as loading does, for a LoRA with a layer that the model lacks, or has in another size.

    unet: the config of the UNet in use; configs: the folder in diffusers layout with the text encoders' configs.
    A model whose text encoders have no configs on this machine is left to loading.
    """
    parts = _layers(unet, configs, TEXTS[: 2 if two_text_encoders else 1])
    if not parts:
        return
    blocks = int(unet.get("layers_per_block", UNET_DEFAULTS["layers_per_block"]))
    names = {part: aliases(part, layers, blocks) for part, layers in parts.items()}
    layers = layers_of(lora.tensors, names, lora.path)
    config = LoraConfig.read(lora.metadata, lora.path)
    config.refuse_changed_base()
    for (part, module), keys in layers.items():
        shapes = {name: lora.tensors[key].shape for name, key in keys.items()}
        check_layer(part, module, shapes, parts[part][module], lora)
        if "alpha" not in shapes:
            config.alpha(part, module)


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


def _layers(unet: Mapping[str, Any], configs: Path, texts: Iterable[str]) -> dict[str, dict[str, Shape]]:
    """The shapes of each part's weights by layer; {} if one of the text encoders has no config."""
    found = {UNET: _weights(unet_shapes(unet, configs))}
    for text in texts:
        path = configs / text / "config.json"
        if not path.is_file():
            return {}
        found[text] = _weights(text_encoder_shapes(read_json_object(path), path))
    return found


def _weights(shapes: Shapes) -> dict[str, Shape]:
    return {name.removesuffix(WEIGHT): shape for name, shape in shapes.items() if name.endswith(WEIGHT)}
