"""Of a file or folder in a folder of models: which options take it, and for which family it is."""

from __future__ import annotations

from pathlib import Path

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.image_encoder import is_image_encoder
from linfusion_cli.weights.lora_names import CROSS, stem_and_kind
from linfusion_cli.weights.model_family import OF_TEXT_DIM, Tensors, family_of, kind_of
from linfusion_cli.weights.pipeline_settings import read_json_object
from linfusion_cli.weights.safetensors_header import Header, read_header, weight_files
from linfusion_cli.weights.t2i_adapter import CHANNELS, FACTORS, holds_t2i_adapter
from linfusion_cli.weights.weight_file import family_of_model

OF_HEADER = {  # what a header says -> the key of the option that takes the file
    "checkpoint": "model",
    "unet": "unet",
    "vae": "vae",
    "lora": "loras",
    "controlnet": "controlnets",
    "t2i-adapter": "controlnets",
    "ip-adapter": "ip_adapter",
    "linfusion": "linfusion",
    "embedding": "textual_inversions",
}
OF_CLASS = {  # what a config.json says of its folder
    "UNet2DConditionModel": "unet",
    "AutoencoderKL": "vae",
    "ControlNetModel": "controlnets",
    "ControlNetUnionModel": "controlnets",
    "T2IAdapter": "controlnets",
}
KINDS = frozenset((*OF_HEADER.values(), "ip_encoder"))
TRAINED_ON = {"sd_v1": "sd15", "sd_v2": "sd21", "sdxl": "sdxl"}  # kohya's ss_base_model_version begins so
TEXT_2 = ("lora_te2_", "text_encoder_2.", "text_encoders.clip_g.")  # SD-XL alone has a second text encoder
UNUSABLE = "unusable"


def kinds_inside(path: Path, wanted: frozenset[str], of_folder: frozenset[str]) -> frozenset[str]:
    """The kinds out of `wanted` that a file or folder is of; of_folder: the kinds that its folder is for.

    A folder for one kind alone decides. In others the header or the config does; what can't be read is of every kind,
    so that a name of it is found and refused with its true cause.
    """
    if len(of_folder) == 1 or not wanted:
        return wanted
    kind = _kind(path)
    return wanted if not kind else wanted & {kind}


def family_of_listed(path: Path, kind: str) -> str:
    """The family that something is for; "" if it does not tell, "unusable" for what can't be read.

    Autoencoders and image encoders of all families look alike.
    """
    try:
        if not kind:
            return UNUSABLE
        if kind == "model":
            return family_of_model(path)
        headers = _headers(path)
        tensors = {name: info for header in headers for name, info in header.tensors.items()}
        match kind:
            case "unet":
                return family_of(tensors, path)
            case "controlnets":
                return _t2i_family(tensors) if holds_t2i_adapter(tensors) else family_of(tensors, path)
            case "loras":
                return _lora_family(headers[0]) if headers else ""
            case "textual_inversions":
                return _embedding_family(tensors)
            case "ip_adapter":
                widths = (info.shape[1] for name, info in tensors.items() if name.endswith("to_k_ip.weight"))
                return OF_TEXT_DIM.get(next(widths, 0), "")
    except (WeightsError, IndexError):
        return UNUSABLE
    return ""


def _kind(path: Path) -> str:
    """The key of the option that takes a file or a folder; "" if it does not tell."""
    if path.is_dir():
        if (path / "model_index.json").exists():
            return "model"
        try:
            config = read_json_object(path / "config.json")
        except WeightsError:
            return ""
        if any(str(name).startswith("CLIPVision") for name in config.get("architectures") or ()):
            return "ip_encoder"
        if (found := OF_CLASS.get(str(config.get("_class_name")))) is not None:
            return found
    try:
        headers = _headers(path)
    except WeightsError:
        return ""
    tensors = {name: info for header in headers for name, info in header.tensors.items()}
    if is_image_encoder(tensors):
        return "ip_encoder"
    return OF_HEADER.get(kind_of(tensors), "")


def _headers(path: Path) -> tuple[Header, ...]:
    """Of a file, or of the files in a folder. Raises WeightsError for pickles and damaged files."""
    return tuple(read_header(file) for file in (weight_files(path) if path.is_dir() else (path,)))


def _is_t2i(tensors: Tensors) -> bool:
    return holds_t2i_adapter(tensors)


def _t2i_family(tensors: Tensors) -> str:
    """ "sdxl" for a T2I-Adapter that folds an image as those do; "" for others, as 1.x and 2.x have the same."""
    first = next((info.shape for name, info in tensors.items() if name.endswith("conv_in.weight")), ())
    return "sdxl" if len(first) > 1 and first[1] in [one * FACTORS[0] ** 2 for one in CHANNELS] else ""


def _lora_family(header: Header) -> str:
    """By the width of the text that its cross-attentions read, else by the base model that its trainer names."""
    for name, info in header.tensors.items():
        stem, kind = stem_and_kind(name) or ("", "")
        if kind in ("down", "hada_w1_b") and len(info.shape) > 1 and stem.removesuffix("_lora").endswith(CROSS):
            return OF_TEXT_DIM.get(info.shape[1], "")
        if name.startswith(TEXT_2):
            return "sdxl"
    base = header.metadata.get("ss_base_model_version", "")
    return next((family for start, family in TRAINED_ON.items() if base.startswith(start)), "")


def _embedding_family(tensors: Tensors) -> str:
    if "clip_g" in tensors:
        return "sdxl"
    return OF_TEXT_DIM.get(next((info.shape[-1] for info in tensors.values() if info.shape), 0), "")
