"""The scale of a LoRA's layers as its header, or the file beside it, gives it, and what its training changed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.json_files import JsonError, parse_json, read_json
from linfusion_cli.weights.lora_layer_names import TEXTS, UNET
from linfusion_cli.weights.lora_names import stem_and_kind
from linfusion_cli.weights.safetensors_header import Header

# init_lora_weights that take the LoRA out of the model's own weights: only the two together are the model.
CHANGED_BASES = ("pissa", "olora", "corda", "loftq")

# What trainers call alpha in a header without peft's configuration: kohya's and ai-toolkit's name, and plain ones.
ALPHAS = ("ss_network_alpha", "network_alpha", "lora_alpha", "alpha")
RANKED = ("down", "hada_w1_b", "lokr_w1_b", "lokr_w2_b")  # tensors whose first side is the rank


@dataclass(frozen=True, slots=True)
class UnreadAlpha:
    """An alpha that a header names and that scales nothing. scale: alpha / rank, None if alpha is no number."""

    key: str
    value: str
    rank: int
    scale: float | None


def unread_alpha(header: Header) -> UnreadAlpha | None:
    """An alpha that a LoRA's header names beside tensors that it does not scale.

    A file with alpha tensors is scaled by these, one with peft's configuration by that. Without both, ComfyUI, A1111
    and diffusers scale by nothing, as ai-toolkit does, which makes alpha the rank where it writes no alpha tensors.
    None without such a key, and where it is each layer's rank, which scales by nothing as well.
    """
    metadata = header.metadata
    if "lora_adapter_metadata" in metadata or _beside(header.path) is not None:
        return None
    key = next((key for key in ALPHAS if key in metadata), "")
    kinds = {name: found for name in header.tensors if (found := stem_and_kind(name)) is not None}
    if not key or any(kind == "alpha" for _, kind in kinds.values()):
        return None
    ranks = [header.tensors[name].shape[0] for name, (_, kind) in kinds.items() if kind in RANKED]
    try:
        alpha = float(metadata[key])
    except ValueError:
        alpha = math.nan
    rank = next((rank for rank in ranks if rank != alpha), 0)
    return UnreadAlpha(key, metadata[key], rank, alpha / rank if math.isfinite(alpha) else None) if rank else None


def _beside(path: Path) -> Path | None:
    """peft's configuration beside a file of its name."""
    beside = path.with_name("adapter_config.json")
    return beside if path.name == "adapter_model.safetensors" and beside.is_file() else None


class LoraConfig:
    """The scale of a file's layers as its header gives it: peft's configuration, which diffusers and trainers write."""

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        self._values = values
        self._path = path

    @staticmethod
    def read(metadata: Mapping[str, str], path: Path) -> LoraConfig:
        """From `lora_adapter_metadata` (diffusers, SimpleTuner), or from peft's adapter_config.json beside the file."""
        text, beside = metadata.get("lora_adapter_metadata", ""), _beside(path)
        try:
            if not text and beside is not None:
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
