"""The scale of a LoRA's layers as its header, or the file beside it, gives it, and what its training changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.json_files import JsonError, parse_json, read_json
from linfusion_cli.weights.lora_layer_names import TEXTS, UNET

# init_lora_weights that take the LoRA out of the model's own weights: only the two together are the model.
CHANGED_BASES = ("pissa", "olora", "corda", "loftq")


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
