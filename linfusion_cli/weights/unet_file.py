"""Another UNet for a model: a folder or one file, in the names of diffusers or in the original ones; by its headers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from linfusion_cli.errors import WeightsError, option
from linfusion_cli.weights.config_rules import check_config
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.families import FAMILY_ROWS
from linfusion_cli.weights.model_family import FAMILY_NAMES, LDM_UNET, Tensors, check_kind, family_of, kind_of
from linfusion_cli.weights.pipeline_settings import read_json_object
from linfusion_cli.weights.safetensors_header import ENDING, Header, TensorInfo, read_header, weight_files
from linfusion_cli.weights.single_file import check_single_file, unused

PARAMETER, CONFIG = "unet", "config.json"
WEIGHT = 2  # dimensions of a linear layer's weight
TEXT = ("cond_stage_model.", "conditioner.embedders.")
# Where a latent consistency model (arXiv 2310.04378) reads its guidance scale; shape (channels, numbers of it).
GUIDANCE = ("time_embedding.cond_proj.weight", "time_embed.cond_proj.weight")


def unet_folder(path: Path) -> Path:
    """The folder of the UNet itself, in that of a model or alone."""
    return path / "unet" if (path / "unet").is_dir() else path


def unet_tensors(path: Path, variant: str) -> dict[str, TensorInfo]:
    """The tensors of a UNet's folder or file, as their headers have them. Raises WeightsError for damaged files."""
    files = weight_files(unet_folder(path), variant) if path.is_dir() else (path,)
    return {name: info for file in files for name, info in read_header(file).tensors.items()}


def has_unet(model: Path) -> bool:
    """Whether a model's folder or file has a UNet's weights. A folder without them may be used with another UNet."""
    return model.is_file() or any((model / "unet").glob(f"*{ENDING}"))


def guidance_embedding_dim(tensors: Tensors) -> int:
    """How many numbers tell a UNet its guidance scale; 0 for the usual UNet, which is not told."""
    names = (*GUIDANCE, LDM_UNET + GUIDANCE[1])
    shapes = (tensors[name].shape for name in names if name in tensors)
    return next((shape[1] for shape in shapes if len(shape) == WEIGHT), 0)


def refuse_unet_alone(header: Header) -> None:
    """Raises WeightsError for a UNet without its text encoder that is named as the model."""
    if kind_of(header.tensors) not in ("unet", "checkpoint") or any(name.startswith(TEXT) for name in header.tensors):
        return
    what = "a UNet without a text encoder, which is no whole model. Name the model that it is for, and "
    raise WeightsError(f"{header.path}: {what}", option(PARAMETER, str(header.path)))


def check_unet(path: Path, variant: str, family: str, base: Path | None, preset: str) -> None:
    """Checks the UNet that is used in place of that of the model `base`, where the two are on this machine.

    Raises WeightsError that names the file for what is no UNet, one of another family than the preset, and a file
    whose layers are not those of the base, whose config it takes. A folder has a config of its own.
    """
    if path.is_dir():
        if not (unet_folder(path) / CONFIG).is_file():
            raise WeightsError(f"{path}: no UNet in it: its folder has {CONFIG} and weights", parameter=PARAMETER)
        check_config("unet", read_json_object(unet_folder(path) / CONFIG), unet_folder(path) / CONFIG)
    tensors = unet_tensors(path, variant)
    if kind_of(tensors) not in ("unet", "checkpoint"):
        check_kind(tensors, "unet", path, PARAMETER)
    found = family_of(tensors, path)
    if found != family:
        what = f"of the family {found} ({FAMILY_NAMES[found]}), preset {preset} is for {family}"
        raise WeightsError(
            f"{path}: {what}. Nearest: ", option("preset", FAMILY_ROWS[found].preset), parameter=PARAMETER
        )
    if path.is_file():
        _check_file(read_header(path), base, variant)


def _check_file(header: Header, base: Path | None, variant: str) -> None:
    """Raises WeightsError for a tensor of a file that is no part of the base's UNet, and for one that is missing."""
    if kind_of(header.tensors) == "checkpoint":
        check_single_file(header)
    if base is None or not has_unet(base):
        return
    ours, theirs = _shapes(header.tensors), _shapes(unet_tensors(base, variant))
    if _is_original(ours) != _is_original(theirs):
        return  # of another layout: loading converts it
    for name in (*ours, *theirs):
        if ours.get(name) != theirs.get(name):
            what = f"its {shown(name)} is {_text(ours.get(name))}, that of {base} {_text(theirs.get(name))}"
            raise WeightsError(f"{header.path}: {what}: a UNet for another model", parameter=PARAMETER)


def _shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    """The shapes of a UNet's tensors without the prefix of the original layout, and without the guidance embedding."""
    dropped = {*unused(tensors), *GUIDANCE}
    inside = any(name.startswith(LDM_UNET) for name in tensors)
    shapes = {
        name.removeprefix(LDM_UNET): info.shape
        for name, info in tensors.items()
        if name not in dropped and (not inside or name.startswith(LDM_UNET))
    }
    return {name: shape for name, shape in shapes.items() if name not in GUIDANCE}


def _is_original(shapes: Mapping[str, object]) -> bool:
    return any(name.startswith("input_blocks.") for name in shapes)


def _text(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(shape)
