"""Where the files are of what is mounted on a model: a LoRA, an IP-Adapter and its image encoder."""

from __future__ import annotations

import math
from pathlib import Path

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.safetensors_header import CONVOLUTION, ENDING, Header

ENCODER = "image_encoder"
FACTORS = (
    ("down.weight", "up.weight"),
    ("lora_A.weight", "lora_B.weight"),
)  # how the names of a layer's two factors end
# Of h94/IP-Adapter, by family: the plain adapter, and its image encoder.
OFFICIAL = {
    "sd15": (
        "models/ip-adapter_sd15.safetensors",
        "models/image_encoder/config.json",
        "models/image_encoder/model.safetensors",
    ),
    "sdxl": (
        "sdxl_models/ip-adapter_sdxl.safetensors",
        "sdxl_models/image_encoder/config.json",
        "sdxl_models/image_encoder/model.safetensors",
    ),
}


def lora_file(place: Path) -> Path:
    """The one .safetensors file of a place. Raises WeightsError if a folder holds none or several."""
    if place.is_file():
        return place
    return _only(place, "--lora", f"*{ENDING}", ENDING)


def merged_parameters(lora: Header) -> int:
    """Of the convolutions that a LoRA is added to: those that were there before wait beside the merged ones."""
    parameters = 0
    for ending, other in FACTORS:
        for name, down in lora.tensors.items():
            up = lora.tensors.get(name.removesuffix(ending) + other)
            if name.endswith(ending) and up is not None and len(down.shape) == CONVOLUTION:
                parameters += up.shape[0] * math.prod(down.shape[1:])
    return parameters


def adapter_file(place: Path, family: str) -> Path:
    """The adapter's file in a place: the place itself, the only one there, or the plain one of the official repository.

    Raises WeightsError, with what is there, if that is not one file.
    """
    if place.is_file():
        return place
    if family in OFFICIAL and (place / OFFICIAL[family][0]).exists():
        return place / OFFICIAL[family][0]
    return _only(place, "--ip-adapter", f"ip*adapter*{ENDING}", f"ip-adapter*{ENDING}")


def encoder_folder(adapter: Path, place: Path) -> Path:
    """The folder of the image encoder of an adapter's file that was found in a place. Raises WeightsError if there is none."""
    folders = [
        folder / ENCODER
        for folder in (adapter.parent, adapter.parent.parent / "models", place if place.is_dir() else adapter.parent)
    ]
    folder = next((folder for folder in folders if (folder / "config.json").exists()), None)
    if folder is None:
        raise WeightsError(
            f"--ip-adapter {adapter}: its image encoder is missing: there is no {folders[0]} with config.json and model{ENDING}"
        )
    return folder


def _only(folder: Path, flag: str, pattern: str, wanted: str) -> Path:
    """The one file that fits the pattern. Raises WeightsError, with what is there, if there is none or several."""
    files = sorted(folder.glob(pattern))
    if len(files) != 1:
        names = ", ".join(path.name for path in files) or "none"
        raise WeightsError(
            f"{flag} {folder}: one {wanted} file is wanted, found: {names}. Name the file: {folder}/FILE{ENDING}"
        )
    return files[0]
