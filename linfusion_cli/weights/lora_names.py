"""How the names of a LoRA file's tensors end, and what it may hold that linfusion can't merge."""

from __future__ import annotations

from pathlib import Path

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.model_family import FAMILY_NAMES, OF_TEXT_DIM, check_kind
from linfusion_cli.weights.safetensors_header import Header

# How a tensor's name ends -> its canonical name, the longest ending first. The kinds follow from what a layer has.
ENDINGS = {
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora_magnitude_vector.weight": "dora_scale",
    ".lora_magnitude_vector": "dora_scale",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_mid.weight": "mid",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A.default.weight": "down",  # of peft's model itself, with the name of its adapter
    ".lora_B.default.weight": "up",
    ".lora_magnitude_vector.default.weight": "dora_scale",
    ".lora_B.bias": "bias",
    "_lora.alpha": "alpha",
    ".dora_scale": "dora_scale",
    ".alpha": "alpha",
    ".diff": "diff",
    ".diff_b": "diff_b",
    ".w_norm": "w_norm",
    ".b_norm": "b_norm",
    ".on_input": "on_input",
    ".weight": "ia3",
}
ENDINGS |= {f".hada_{name}": f"hada_{name}" for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")}
ENDINGS |= {f".lokr_{name}": f"lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")}
_CONVERT = "which linfusion can't merge; convert the file to LoRA with its trainer"
UNSUPPORTED = {
    "bundle_emb.": "an embedding inside a LoRA file; save it as a file of its own, for textual inversion",
    ".oft_": f"OFT layers, {_CONVERT}",
    ".boft_": f"BOFT layers, {_CONVERT}",
    ".a1.weight": f"GLoRA layers, {_CONVERT}",
    ".a2.weight": f"GLoRA layers, {_CONVERT}",
    ".b1.weight": f"GLoRA layers, {_CONVERT}",
    ".b2.weight": f"GLoRA layers, {_CONVERT}",
    ".vera_lambda": f"VeRA layers, {_CONVERT}",
    ".lora_controlnet": "a control-LoRA; use a ControlNet instead",
    "lora_controlnet": "a control-LoRA; use a ControlNet instead",
    ".motion_modules.": "layers of AnimateDiff's motion modules, which linfusion can't run",
    ".loras_": "several LoRAs in one file; save each as a file of its own",
}
OTHER_MODELS = {
    "transformer.": "a LoRA for a transformer model (as Flux and Stable Diffusion 3)",
    "lora_transformer_": "a LoRA for a transformer model (as Flux and Stable Diffusion 3)",
    "lora_unet_double_blocks_": "a LoRA for Flux",
    "lora_unet_joint_blocks_": "a LoRA for Stable Diffusion 3",
    "diffusion_model.double_blocks.": "a LoRA for Flux",
    "diffusion_model.single_blocks.": "a LoRA for Flux",
    "diffusion_model.joint_blocks.": "a LoRA for Stable Diffusion 3",
    "lora_prior_": "a LoRA for Stable Cascade",
    "text_encoders.t5xxl.": "a LoRA for a model that reads text with T5 (as Flux and Stable Diffusion 3)",
}
CROSS = ("attn2.to_k", "attn2_to_k", "attn2.processor.to_k")  # layers that read the text
DOWN = "down"


def check_lora(header: Header, text_dim: int) -> None:
    """Checks what a LoRA file's header tells, before anything is loaded.

    text_dim: of the model's UNet, 0 if that is not known. Raises WeightsError for another kind of file, a tensor that
    linfusion can't merge, and a LoRA whose cross-attentions read text of another width.
    """
    path = header.path
    for name in header.tensors:
        if mark := next((mark for mark in OTHER_MODELS if name.startswith(mark)), ""):
            what = f"{OTHER_MODELS[mark]}, which linfusion can't run (tensor {shown(name)})"
            raise WeightsError(f"{path}: {what}", parameter="loras")
    check_kind(header.tensors, "lora", path, "lora")
    for name, info in header.tensors.items():
        stem, kind = split_name(name, path)
        reads = (
            info.shape[1] if kind == DOWN and len(info.shape) > 1 and stem.removesuffix("_lora").endswith(CROSS) else 0
        )
        if reads and text_dim and reads != text_dim:
            family = OF_TEXT_DIM.get(reads, "")
            of = f" (of {FAMILY_NAMES.get(family, family)})" if family else ""
            what = f"for another model{of}: {shown(name)} reads text of width {reads}, the model's is {text_dim}"
            raise WeightsError(f"{path}: {what}", parameter="loras")


def plain_lora(header: Header) -> bool:
    """Whether a file has a layer of two factors and nothing else, which peft puts beside a linear layer."""
    kinds: dict[str, set[str]] = {}
    for name in header.tensors:
        stem, kind = split_name(name, header.path)
        kinds.setdefault(stem, set()).add(kind)
    return any(
        found - {"alpha"} == {DOWN, "up"} and not stem.endswith("text_projection") for stem, found in kinds.items()
    )


def split_name(key: str, path: Path) -> tuple[str, str]:
    """A tensor's layer as the file calls it, and the tensor's canonical name.

    Raises WeightsError for a tensor of a kind that linfusion does not know, or can't merge.
    """
    for mark, meaning in UNSUPPORTED.items():
        if mark in f".{key}":
            raise WeightsError(f"{path}: holds {meaning} (tensor {shown(key, 120)})", parameter="loras")
    if (found := stem_and_kind(key)) is not None:
        return found
    raise WeightsError(
        f"{path}: tensor {shown(key, 120)} is of no kind that linfusion knows: LoRA, DoRA, LoHa, LoKr, (IA)^3, full",
        parameter="loras",
    )


def stem_and_kind(key: str) -> tuple[str, str] | None:
    """A tensor's layer as the file calls it, and the tensor's canonical name; None for a name of no known kind."""
    for ending in _LONGEST_FIRST:
        if key.endswith(ending):
            return key.removesuffix(ending) + ("_lora" if ending.startswith("_lora") else ""), ENDINGS[ending]
    return None


_LONGEST_FIRST = tuple(sorted(ENDINGS, key=len, reverse=True))
