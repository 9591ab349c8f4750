"""Tells what weights are, and of which family, by the names and shapes of their tensors: never by the file's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from linfusion_cli.errors import Option, WeightsError, option
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.families import FAMILY_ROWS
from linfusion_cli.weights.safetensors_header import CONVOLUTION, TensorInfo
from linfusion_cli.weights.single_file_layouts import FIRST_OF_UNET, LAYOUTS, MARKS, prefixes, ways

LDM_UNET = LAYOUTS["original"].unet.prefix
WHOLE = tuple(way.prefix + MARKS["unet", way.naming] for way in ways("unet") if way.prefix)
DECODERS = ("decoder.", *(f"{prefix}decoder." for prefix in prefixes("vae")))
FAMILY_NAMES = {name: row.full_name for name, row in FAMILY_ROWS.items()}
REFINER_TEXT_DIM = 1280
OF_TEXT_DIM = {row.text_dim: name for name, row in FAMILY_ROWS.items()} | {REFINER_TEXT_DIM: "sdxl refiner"}
LATENT_CHANNELS = 4
# What a UNet is that reads more channels than an image's four: their number in the models that people have.
OF_CHANNELS = {5: "a depth model", 7: "an upscaler (x4)", 8: "InstructPix2Pix or a video model"}
OF_CHANNELS |= {9: "an inpainting model", 13: "an inpainting model of two inputs"}
LINEAR = 2  # dimensions of a linear layer's weight
# How tensors begin of models that are no UNets of Stable Diffusion 1.x, 2.x or XL.
FOREIGN = {f"{LDM_UNET}joint_blocks.": "Stable Diffusion 3", "joint_blocks.": "Stable Diffusion 3"}
FOREIGN |= {f"{LDM_UNET}double_blocks.": "Flux", "double_blocks.": "Flux", "transformer_blocks.": "a transformer model"}
FOREIGN |= {"clip_txt_mapper.": "Stable Cascade", "double_layers.": "AuraFlow", "model.double_layers.": "AuraFlow"}
FOREIGN |= {
    "down_blocks.0.motion_modules.": "a motion module of AnimateDiff",
    "text_model.": "a text encoder (CLIP)",
}
FOREIGN |= {"encoder.block.": "a text encoder (T5)", "model.1.sub.": "an upscaler of ESRGAN's kind"}
FOREIGN |= dict.fromkeys(("blocks.", "layers.", "x_embedder.", "encoder.layers."), "a model without a UNet")
FOREIGN |= {"adapter.": "a T2I-Adapter", "lllite_unet": "a ControlNet-LLLite", "lora_controlnet": "a control-LoRA"}

# Tensors of controls that are no plain ControlNet. A difference is added to the weights of the model in use.
FOREIGN_CONTROLS = {"lora_controlnet": "a control-LoRA", "difference": "the difference of a ControlNet from a UNet"}
FOREIGN_CONTROLS |= {"down_blocks.0.ctrl_to_base.0.weight": "a ControlNet-XS"}

LORA_MARKS = ("lora_", "lycoris_", "_lora.", ".lora.", ".hada_w", ".lokr_w", ".dora_scale", ".oft_", ".boft_", ".vera_")

Tensors = Mapping[str, TensorInfo]


def kind_of(tensors: Tensors) -> str:
    """What a file holds.

    "checkpoint" (single file), "unet", "vae", "lora", "controlnet", "linfusion", "ip-adapter", "embedding", "unknown".
    """
    names = list(tensors)
    marks: dict[str, Callable[[str], bool]] = {
        "checkpoint": lambda name: name.startswith(WHOLE),
        "lora": lambda name: any(mark in name for mark in LORA_MARKS),
        "ip-adapter": lambda name: name.startswith(("image_proj.", "ip_adapter.")),
        "controlnet": lambda name: name.startswith(
            ("controlnet_", "control_model.", "zero_convs.", "input_hint_block.")
        ),
        "t2i-adapter": lambda name: (
            name.startswith("adapter.body.") or (name.startswith("body.") and ".block1." in name)
        ),
        "linfusion": lambda name: ".to_q_." in name,
        "unet": lambda name: (
            (name.startswith("down_blocks.") and ".attentions." in name) or name.startswith("input_blocks.")
        ),
        "vae": lambda name: name.startswith(DECODERS),
    }
    for kind, mark in marks.items():
        if any(mark(name) for name in names):
            return kind
    vectors = all(len(info.shape) <= 2 for info in tensors.values())
    layers = any(name.endswith((".weight", ".bias")) for name in names)  # of a network, as a hypernetwork
    return "embedding" if names and vectors and not layers and len(names) <= 4 else "unknown"


def family_of(tensors: Tensors, source: Path) -> str:
    """The family of a UNet, a ControlNet or a single file, as the table of families tells it: "sd15", for example.

    Raises WeightsError for other architectures, the refiner, and UNets that also read an image (inpainting, depth).
    """
    first = _first_convolution(tensors)
    projection = next((info for name, info in tensors.items() if name.endswith(".proj_in.weight")), None)
    if first is None or projection is None:
        kind = kind_of(tensors)
        if name := next((name for start, name in FOREIGN.items() if any(key.startswith(start) for key in tensors)), ""):
            raise WeightsError(f"{source}: {name}, which linfusion can't run. ", *_instead("unknown"))
        raise WeightsError(
            f"{source}: no Stable Diffusion model of a known family; it looks like: {kind}. ",
            *_instead(kind),
        )
    if first.shape[1] != LATENT_CHANNELS:
        what = OF_CHANNELS.get(first.shape[1], "a model of another kind")
        raise WeightsError(
            f"{source}: its UNet reads {first.shape[1]} channels instead of 4: {what}, which linfusion can't run. "
            "Take the model that makes images from text alone"
        )
    rows = FAMILY_ROWS.items()
    marked = next((name for name, row in rows if row.marks and any(key.endswith(row.marks) for key in tensors)), "")
    if marked and text_dim(tensors) == REFINER_TEXT_DIM:
        raise WeightsError(f"{source}: the SD-XL refiner makes no image from text alone. Use the SD-XL base model")
    linear = len(projection.shape) == LINEAR
    return marked or next(name for name, row in rows if not row.marks and row.linear_projection == linear)


def text_dim(tensors: Tensors) -> int:
    """The width of the text that a UNet or ControlNet reads; 0 if it reads none."""
    ends = ".attn2.to_k.weight"
    return next((info.shape[1] for name, info in tensors.items() if name.endswith(ends) and len(info.shape) > 1), 0)


def check_family(location: Path, family: str, wanted: str, preset: str) -> None:
    """Raises WeightsError if a model on this machine is of another family than the preset."""
    if family != wanted:
        what = f"of the family {family} ({FAMILY_NAMES[family]}), preset {preset} is for {wanted}"
        raise WeightsError(f"{location}: {what}. Nearest: ", option("preset", FAMILY_ROWS[family].preset))


def check_kind(tensors: Tensors, wanted: str, source: Path, parameter: str) -> None:
    """Raises WeightsError if the file holds something else than its option is for."""
    kind = kind_of(tensors)
    if wanted == "controlnet" and (
        name := next((what for mark, what in FOREIGN_CONTROLS.items() if mark in tensors), "")
    ):
        raise WeightsError(
            f"{source}: {name}, which linfusion can't run. Take a full ControlNet of the same kind", parameter=parameter
        )
    if wanted == "controlnet" and any(name.startswith("lllite_") for name in tensors):
        raise WeightsError(
            f"{source}: a ControlNet-LLLite, which linfusion can't run. Take a full ControlNet", parameter=parameter
        )
    if kind == "unknown":
        first = ", ".join(shown(name, 60) for name in list(tensors)[:2]) or "none"
        raise WeightsError(
            f"{source}: no {wanted} of a layout that linfusion knows. Its tensors: {first}"
            f"{', ...' if len(tensors) > 2 else ''}",
            parameter=parameter,
        )
    if kind != wanted:
        raise WeightsError(f"{source}: looks like: {kind}, not {wanted}. ", *_instead(kind), parameter=parameter)


def _first_convolution(tensors: Tensors) -> TensorInfo | None:
    """That of a UNet, or of a ControlNet, in any layout."""
    names = [way.prefix + FIRST_OF_UNET[way.naming] for way in ways("unet")]
    found = (tensors[name] for name in ("control_model.input_blocks.0.0.weight", *names) if name in tensors)
    return next((info for info in found if len(info.shape) == CONVOLUTION), None)


def _instead(kind: str) -> tuple[str | Option, ...]:
    """The advice for a file of this kind: the option that takes it, or what is allowed."""
    options = {"ip-adapter": "ip_adapter", "embedding": "textual_inversion", "checkpoint": "model"}
    options |= {name: name for name in ("lora", "controlnet", "unet", "vae", "linfusion")}
    if kind in options:
        return "Did you mean ", option(options[kind]), "?"
    return ("Allowed: Stable Diffusion 1.x, 2.x and XL, as a folder in diffusers layout or one .safetensors file",)
