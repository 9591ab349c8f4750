"""Which layer of a model each tensor of a LoRA file is for, and what kind of update a layer gets: by names alone."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from linfusion_cli.errors import WeightsError
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
KOHYA = {"lora_unet_": UNET, "lora_te_": TEXTS[0], "lora_te1_": TEXTS[0], "lora_te2_": TEXTS[1], "lycoris_": UNET}
KOHYA |= {f"{prefix[:-1]}.": part for prefix, part in KOHYA.items()}  # OneTrainer's, with the layers' own names


def layers_of(
    keys: Iterable[str], names: Mapping[str, Mapping[str, str]], path: Path
) -> dict[tuple[str, str], dict[str, str]]:
    """(part, layer) -> canonical name -> tensor, of a file's tensors. names: by part ("unet", ...), as aliases() makes.

    Raises WeightsError naming the first tensor that has no meaning or whose layer no model has.
    """
    grouped: dict[tuple[str, str], dict[str, str]] = {}
    for key in keys:
        stem, name = split_name(key, path)
        part, module = _layer(stem, names, key, path)
        group = grouped.setdefault((part, module), {})
        if name in group:
            raise WeightsError(
                f"{path}: two tensors for {part}.{module} ({name}); the second is {key[:120]}", parameter="loras"
            )
        group[name] = key
    return grouped


def kind_of_update(parts: Iterable[str], layer: str, path: Path) -> str:
    """The kind of a layer's update by the canonical names of its tensors, without alpha.

    Raises WeightsError, with what there is, for a layer that lacks some.
    """
    have = set(parts)
    for kind, (required, optional) in KINDS.items():
        if required <= have <= required | optional and have - {"dora_scale"}:
            return kind
    raise WeightsError(
        f"{path}: incomplete at {layer}: has only {', '.join(sorted(have)) or 'alpha'}"[:400], parameter="lora"
    )


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


def trains_text(names: Iterable[str]) -> bool:
    """Whether a file's tensors are for a text encoder, too."""
    return any(part in TEXTS for name in names for part, _ in islice(_candidates(name), 1))


def _modern(name: str) -> str:
    """Names of attention layers before 2024 as they are now: attn1.processor.to_q_lora -> attn1.to_q."""
    name = name.replace(".processor.", ".").removesuffix("_lora")
    if name.endswith(("attn1.to_out", "attn2.to_out")):
        return f"{name}.0"
    for theirs, ours in (("to_q", "q_proj"), ("to_k", "k_proj"), ("to_v", "v_proj"), ("to_out", "out_proj")):
        if name.endswith((f".self_attn.{theirs}", f".self_attn.{theirs}.0")):
            return name.rpartition(".self_attn.")[0] + f".self_attn.{ours}"
    return name


def aliases(part: str, layers: Iterable[str], layers_per_block: int) -> dict[str, str]:
    """Every name that files give to a model's layers -> the layer's own name."""
    found: dict[str, str] = {}
    layers = tuple(layers)
    attends = attending_blocks(layers)
    for own in layers:
        calls = [own]
        if part == UNET:
            calls.append(original_name(own, layers_per_block, attends))
        else:
            plain = own.removeprefix("text_model.")
            calls += [plain, f"text_model.{plain}"]
        for call in calls:
            found |= {call: own, call.replace(".", "_"): own}
    return found


def attending_blocks(names: Iterable[str]) -> frozenset[str]:
    """The blocks on a UNet's way up that have attention, by the names of its layers or tensors: "up_blocks.1"."""
    return frozenset(name.partition(".attentions.")[0] for name in names if ".attentions." in name)


def original_name(name: str, layers: int, attends: Container[str]) -> str:
    """A UNet layer's name in the original layout: down_blocks.1.attentions.0.proj_in -> input_blocks.4.1.proj_in.

    layers: per block; attends: the blocks that attending_blocks() finds, in which an upsampler is the third module
    """
    top = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
    top |= {f"time_embedding.linear_{n}": f"time_embed.{2 * n - 2}" for n in (1, 2)}
    top["time_embedding.cond_proj"] = "time_embed.cond_proj"
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
        return f"output_blocks.{block * (layers + 1) + layers}.{2 if f'up_blocks.{block}' in attends else 1}.{rest}"
    start = (
        f"input_blocks.{1 + block * (layers + 1) + index}"
        if side == "down"
        else f"output_blocks.{block * (layers + 1) + index}"
    )
    return f"{start}.{number}.{rest}"
