"""Which safetensors files of a location are read: those of the parts that a model needs, in one variant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.adapter_files import adapter_file, lora_file
from linfusion_cli.weights.embedding_file import embedding_file
from linfusion_cli.weights.safetensors_header import weight_files

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
CONTROL_VARIANT = "fp16"  # of ControlNets and T2I-Adapters, where they have it


def used_files(path: Path, parameter: str, family: str, variant: str) -> tuple[Path, ...]:
    """The files of a location that an option names, in the order in which they are read.

    A part of a folder in diffusers layout that is missing has none: loading it reports that. Raises WeightsError if a
    folder holds none or several of what is one file by itself.
    """
    match parameter:
        case "checkpoint":  # a model, of which the header of a single file is all that is asked
            return (path,) if path.is_file() else ()
        case "lora":
            return (lora_file(path),)
        case "textual_inversion":
            return (embedding_file(path),)
        case "ip_adapter":
            return (adapter_file(path, family),)
    if path.is_file():
        return (path,)
    return tuple(file for folder, own in _folders(path, parameter, variant) for file in _present(folder, own))


def linfusion_folder(path: Path) -> Path:
    """The folder of the linear attention: inside a model's folder, or by itself."""
    return path / "linfusion" if (path / "linfusion").is_dir() else path


def _folders(path: Path, parameter: str, variant: str) -> Iterator[tuple[Path, str]]:
    """The folders of the parts, each with the variant of its files."""
    match parameter:
        case "model":
            yield from ((path / part, variant) for part in PARTS)
        case "unet":
            yield (path / "unet" if (path / "unet").is_dir() else path), variant
        case "vae":
            yield (path / "vae", variant) if (path / "vae").is_dir() else (path, "")
        case "controlnet":
            yield path, CONTROL_VARIANT
        case "linfusion":
            yield linfusion_folder(path), ""
        case _:
            yield path, ""


def _present(folder: Path, variant: str) -> tuple[Path, ...]:
    try:
        return weight_files(folder, variant)
    except WeightsError:
        return ()
