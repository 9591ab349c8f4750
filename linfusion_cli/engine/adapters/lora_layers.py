"""A LoRA file's tensors, by the layer that each belongs to: every one is assigned, or named and refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from linfusion_cli.engine.adapters.lycoris import Update
from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.lora_config import LoraConfig
from linfusion_cli.weights.lora_layer_names import aliases, kind_of_update, layers_of


def layer_updates(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], models: Mapping[str, Any], path: Path
) -> list[Update]:
    """The updates of a file for models by part ("unet", ...).

    Raises WeightsError naming the first tensor that has no meaning or whose layer no model has.
    """
    refuse_no_numbers(tensors, path, "loras")
    names = {part: aliases(part, _layers(model), _layers_per_block(model)) for part, model in models.items()}
    grouped = layers_of(tensors, names, path)
    config = LoraConfig.read(metadata, path)
    config.refuse_changed_base()
    peft = any(".lora_A." in key for key in tensors)
    return [
        _update(part, module, {name: tensors[key] for name, key in keys.items()}, config, path, peft=peft)
        for (part, module), keys in grouped.items()
    ]


def _layers(model: Any) -> list[str]:
    """The names of a model's layers with a weight, as they are without LoRA."""
    return [
        name.removesuffix(".base_layer")
        for name, module in model.named_modules()
        if isinstance(getattr(module, "weight", None), nn.Parameter)
    ]


def _layers_per_block(model: Any) -> int:
    """Of a UNet; 0 of a text encoder, whose names do not depend on it."""
    return int(getattr(model.config, "layers_per_block", 0))


def refuse_no_numbers(tensors: Mapping[str, Tensor], path: Path, parameter: str) -> None:
    """Raises WeightsError for a tensor of an adapter with NaN or infinity: attention would hide them.

    parameter: the option that names the file
    """
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.float().isfinite().all():
            what = f"its tensor {key[:120]} holds values that are not numbers (NaN or infinite)"
            raise WeightsError(f"{path}: {what}: its training failed, or the file is damaged", parameter=parameter)


def _update(part: str, module: str, parts: dict[str, Tensor], config: LoraConfig, path: Path, *, peft: bool) -> Update:
    """The update of one layer. Raises WeightsError for tensors that make none of KINDS."""
    alpha = None
    if (tensor := parts.pop("alpha", None)) is not None:
        if tensor.numel() != 1:
            what = f"the alpha of {part}.{module} is {tensor.numel()} numbers instead of one"
            raise WeightsError(f"{path}: {what}", parameter="loras")
        alpha = float(tensor.item())
    kind = kind_of_update(parts, f"{part}.{module}", path)
    given, root = (alpha, False) if alpha is not None else config.alpha(part, module)
    return Update(part, module, kind, parts, given, root, peft)
