"""A LoRA file's tensors, by the layer that each belongs to: every one is assigned, or named and refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from linfusion_cli.engine.adapters.lycoris import Update
from linfusion_cli.errors import WeightsError
from linfusion_cli.json_files import JsonError, parse_json, read_json
from linfusion_cli.weights.lora_layer_names import TEXTS, UNET, aliases, kind_of_update, layers_of

# init_lora_weights that take the LoRA out of the model's own weights: only the two together are the model.
CHANGED_BASES = ("pissa", "olora", "corda", "loftq")


def layer_updates(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], models: Mapping[str, Any], path: Path
) -> list[Update]:
    """The updates of a file for models by part ("unet", ...).

    Raises WeightsError naming the first tensor that has no meaning or whose layer no model has.
    """
    _refuse_no_numbers(tensors, path)
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


def _refuse_no_numbers(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises WeightsError for a tensor with NaN or infinity: attention would hide them, and the LoRA with them."""
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.float().isfinite().all():
            what = f"its tensor {key[:120]} holds values that are not numbers (NaN or infinite)"
            raise WeightsError(f"{path}: {what}: its training failed, or the file is damaged", parameter="loras")


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


class LoraConfig:
    """The scale of a file's layers as its header gives it: peft's configuration, which diffusers and trainers write."""

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        self._values = values
        self._path = path

    @staticmethod
    def read(metadata: Mapping[str, str], path: Path) -> LoraConfig:
        """From `lora_adapter_metadata` (diffusers, SimpleTuner), or from peft's adapter_config.json beside the file."""
        text, beside = metadata.get("lora_adapter_metadata", ""), path.with_name("adapter_config.json")
        try:
            if not text and path.name == "adapter_model.safetensors" and beside.is_file():
                return LoraConfig(read_json(beside), path)
            return LoraConfig(parse_json(text or "{}", "it"), path)
        except (JsonError, OSError) as error:
            what = f"the LoRA's configuration in its header is damaged ({str(error)[:150]})"
            raise WeightsError(f"{path}: {what}", parameter="loras") from error

    def refuse_changed_base(self) -> None:
        """Raises WeightsError for a LoRA that belongs to changed weights of the model, which its file does not hold."""
        for key, value in self._values.items():
            kind = str(value).lower()
            if key.rpartition(".")[2] == "init_lora_weights" and kind.startswith(CHANGED_BASES):
                what = f"trained from {kind[:40]}, which changed the model's own weights"
                raise WeightsError(
                    f"{self._path}: {what}: it fits no model alone. Save it again with peft's "
                    "path_initial_model_for_weight_conversion",
                    parameter="loras",
                )

    def alpha(self, part: str, module: str) -> tuple[float | None, bool]:
        """The layer's alpha (None: none is given) and whether it is divided by the rank's square root."""
        prefixed = any(key.startswith((f"{UNET}.", *(f"{text}." for text in TEXTS))) for key in self._values)
        prefix = f"{part}." if prefixed else ""
        patterns = self._values.get(f"{prefix}alpha_pattern") or {}
        value = self._values.get(f"{prefix}lora_alpha", self._values.get(f"{prefix}alpha"))
        for pattern, one in patterns.items() if isinstance(patterns, dict) else ():
            name = str(pattern).removeprefix("^").removesuffix("$")
            if re.fullmatch(r"[\w.\\]*", name) is None:
                raise WeightsError(
                    f"{self._path}: its header's alpha_pattern {str(pattern)[:80]!r} is not a plain layer name",
                    parameter="loras",
                )
            name = name.replace("\\", "")
            if module == name or (not str(pattern).startswith("^") and module.endswith(f".{name}")):
                value = one
                break
        if value is not None and not (isinstance(value, int | float) and abs(value) < float("inf")):
            raise WeightsError(
                f"{self._path}: its header's lora_alpha is {str(value)[:40]!r}: a number is required", parameter="loras"
            )
        return (None if value is None else float(value)), bool(self._values.get(f"{prefix}use_rslora"))
