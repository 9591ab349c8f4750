"""A LoRA file's tensors, by the layer that each belongs to: every one is assigned, or named and refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from linfusion_cli.engine.adapters.lycoris import Update
from linfusion_cli.errors import WeightsError
from linfusion_cli.json_files import JsonError, parse_json, read_json
from linfusion_cli.weights.lora_names import ENDINGS, split_name

UNET, TEXTS = "unet", ("text_encoder", "text_encoder_2")
# The tensors that a kind must have and may have, beside alpha.
KINDS: dict[str, tuple[set[str], set[str]]] = {
    "lora": ({"down", "up"}, {"mid", "dora_scale", "bias", "diff_b"}),
    "loha": ({f"hada_w{i}_{j}" for i in "12" for j in "ab"}, {"hada_t1", "hada_t2", "dora_scale"}),
    "lokr": (set(), {name for name in ENDINGS.values() if name.startswith("lokr_")} | {"dora_scale"}),
    "ia3": ({"ia3", "on_input"}, set()),
    "full": (set(), {"diff", "diff_b"}),
    "norm": (set(), {"w_norm", "b_norm"}),
}
COMFY = {"diffusion_model.": UNET}  # ComfyUI's LoraSave, with the original names
COMFY |= {f"text_encoders.clip_{name}.transformer.": part for name, part in zip("lg", TEXTS, strict=True)}
# init_lora_weights that take the LoRA out of the model's own weights: only the two together are the model.
CHANGED_BASES = ("pissa", "olora", "corda", "loftq")
KOHYA = {"lora_unet_": UNET, "lora_te_": TEXTS[0], "lora_te1_": TEXTS[0], "lora_te2_": TEXTS[1], "lycoris_": UNET}


def layer_updates(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], models: Mapping[str, Any], path: Path
) -> list[Update]:
    """The updates of a file for models by part ("unet", ...).

    Raises WeightsError naming the first tensor that has no meaning or whose layer no model has.
    """
    _refuse_no_numbers(tensors, path)
    names = {part: _aliases(part, model) for part, model in models.items()}
    grouped: dict[tuple[str, str], dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        stem, name = split_name(key, path)
        part, module = _layer(stem, names, key, path)
        group = grouped.setdefault((part, module), {})
        if name in group:
            raise WeightsError(
                f"{path}: two tensors for {part}.{module} ({name}); the second is {key[:120]}", parameter="loras"
            )
        group[name] = tensor
    config = LoraConfig.read(metadata, path)
    config.refuse_changed_base()
    peft = any(".lora_A." in key for key in tensors)
    return [_update(part, module, parts, config, path, peft=peft) for (part, module), parts in grouped.items()]


def _refuse_no_numbers(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises WeightsError for a tensor with NaN or infinity: attention would hide them, and the LoRA with them."""
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.float().isfinite().all():
            what = f"its tensor {key[:120]} holds values that are no numbers (NaN or infinite)"
            raise WeightsError(f"{path}: {what}: its training failed, or the file is damaged", parameter="loras")


def _layer(stem: str, names: Mapping[str, Mapping[str, str]], key: str, path: Path) -> tuple[str, str]:
    """Part and module of a layer. Raises WeightsError if the model has none of that name."""
    for part, name in _candidates(stem):
        if name in names.get(part, {}):
            return part, names[part][name]
    part = next((part for part, _ in _candidates(stem)), UNET)
    if part in names:
        raise WeightsError(
            f"{path}: for another model: the model's {part} has no layer for tensor {key[:120]}", parameter="loras"
        )
    raise WeightsError(
        f"{path}: for another model: the model has no {part}, which tensor {key[:120]} is for", parameter="loras"
    )


def _candidates(stem: str) -> Iterator[tuple[str, str]]:
    """The parts and names that a layer's name in a file may mean."""
    for prefix, part in KOHYA.items():
        if stem.startswith(prefix):
            yield part, stem.removeprefix(prefix)
    for prefix, part in COMFY.items():
        if stem.startswith(prefix):
            yield part, stem.removeprefix(prefix)
            return
    stem = stem.removeprefix("base_model.model.")
    for part in (UNET, *TEXTS):
        if stem.startswith(f"{part}."):
            yield part, _modern(stem.removeprefix(f"{part}.").removeprefix("base_model.model."))
            return
    yield (TEXTS[0] if stem.startswith("text_model.") else UNET), _modern(stem)


def _modern(name: str) -> str:
    """Names of attention layers before 2024 as they are now: attn1.processor.to_q_lora -> attn1.to_q."""
    name = name.replace(".processor.", ".").removesuffix("_lora")
    if name.endswith(("attn1.to_out", "attn2.to_out")):
        return f"{name}.0"
    for theirs, ours in (("to_q", "q_proj"), ("to_k", "k_proj"), ("to_v", "v_proj"), ("to_out", "out_proj")):
        if name.endswith((f".self_attn.{theirs}", f".self_attn.{theirs}.0")):
            return name.rpartition(".self_attn.")[0] + f".self_attn.{ours}"
    return name


def _aliases(part: str, model: Any) -> dict[str, str]:
    """Every name that files give to the model's layers -> the layer's own name."""
    found: dict[str, str] = {}
    for name, module in model.named_modules():
        if not isinstance(getattr(module, "weight", None), nn.Parameter):
            continue
        own = name.removesuffix(".base_layer")
        calls = [own]
        if part == UNET:
            calls.append(original_name(own, model.config.layers_per_block))
        else:
            plain = own.removeprefix("text_model.")
            calls += [plain, f"text_model.{plain}"]
        for call in calls:
            found |= {call: own, call.replace(".", "_"): own}
    return found


def original_name(name: str, layers: int) -> str:
    """A UNet layer's name in the original layout: down_blocks.1.attentions.0.proj_in -> input_blocks.4.1.proj_in."""
    top = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
    top |= {f"time_embedding.linear_{n}": f"time_embed.{2 * n - 2}" for n in (1, 2)}
    top |= {f"add_embedding.linear_{n}": f"label_emb.0.{2 * n - 2}" for n in (1, 2)}
    if name in top:
        return top[name]
    match = re.fullmatch(
        r"(down|up|mid)_block(?:s\.(\d+))?\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name
    )
    if match is None:
        return name
    side, block, kind, index, rest = match[1], int(match[2] or 0), match[3], int(match[4]), match[5]
    inner = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0"}
    inner |= {"conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
    rest = inner.get(rest, rest) if kind == "resnets" else rest
    if side == "mid":
        return f"middle_block.{2 * index if kind == 'resnets' else 1}.{rest}"
    number = int(kind == "attentions")
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * (layers + 1)}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{block * (layers + 1) + layers}.2.{rest}"
    start = (
        f"input_blocks.{1 + block * (layers + 1) + index}"
        if side == "down"
        else f"output_blocks.{block * (layers + 1) + index}"
    )
    return f"{start}.{number}.{rest}"


def _update(part: str, module: str, parts: dict[str, Tensor], config: LoraConfig, path: Path, *, peft: bool) -> Update:
    alpha = None
    if (tensor := parts.pop("alpha", None)) is not None:
        if tensor.numel() != 1:
            what = f"the alpha of {part}.{module} is {tensor.numel()} numbers instead of one"
            raise WeightsError(f"{path}: {what}", parameter="loras")
        alpha = float(tensor.item())
    for kind, (required, optional) in KINDS.items():
        if required <= set(parts) <= required | optional and parts:
            given, root = (alpha, False) if alpha is not None else config.alpha(part, module)
            return Update(part, module, kind, parts, given, root, peft)
    raise WeightsError(
        f"{path}: incomplete at {part}.{module}: has only {', '.join(sorted(parts)) or 'alpha'}"[:400],
        parameter="lora",
    )


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
                    f"{self._path}: its header's alpha_pattern {str(pattern)[:80]!r} is no plain layer name",
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
