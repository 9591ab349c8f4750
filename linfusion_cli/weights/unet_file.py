"""Another UNet for a model: a folder or one file, in the names of diffusers or in the original ones; by its headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError, option
from linfusion_cli.weights.config_rules import check_config
from linfusion_cli.weights.config_shapes import check_tensors, shapes_of
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.families import FAMILY_ROWS
from linfusion_cli.weights.layer_shapes import first_difference
from linfusion_cli.weights.locate import cache_folder
from linfusion_cli.weights.model_family import FAMILY_NAMES, Tensors, check_kind, family_of, kind_of
from linfusion_cli.weights.pipeline_settings import read_json_object
from linfusion_cli.weights.safetensors_header import Header, weight_files
from linfusion_cli.weights.single_file import check_single_file, unused
from linfusion_cli.weights.single_file_layouts import TEXT_ENCODERS, named
from linfusion_cli.weights.single_file_shapes import check_single_file_shapes
from linfusion_cli.weights.unet_settings import GUIDANCE, with_settings_of
from linfusion_cli.weights.weight_file import WeightFile

PARAMETER, CONFIG = "unet", "config.json"


def unet_folder(path: Path) -> Path:
    """The folder of the UNet itself, in that of a model or alone."""
    return path / "unet" if (path / "unet").is_dir() else path


def config_path(path: Path) -> Path:
    """Where the settings of a UNet are: in its folder, in that of its model, or told by the tensors of one file."""
    return unet_folder(path) / CONFIG if path.is_dir() else path


def refuse_unet_alone(header: Header) -> None:
    """Raises WeightsError for a UNet without its text encoder that is named as the model."""
    whole = any(named(header.tensors, part) is not None for part in TEXT_ENCODERS)
    if whole or kind_of(header.tensors) not in ("unet", "checkpoint"):
        return
    what = "a UNet without a text encoder, which is not a whole model. Name the model that it is for, and "
    raise WeightsError(f"{header.path}: {what}", option(PARAMETER, str(header.path)))


def check_unet(unet: WeightFile, model: WeightFile, family: str, preset: str, configs: Path) -> None:
    """Checks a UNet on this machine that is used instead of that of the model, which may be missing here.

    configs: the folder in diffusers layout whose configs a model in one file takes.
    Raises WeightsError that names the file for what is no UNet, one of another family than the preset, and a file
    whose layers are not those of the model's UNet, whose config it takes. A folder has a config of its own.
    """
    path, tensors = unet.open(), unet.tensors
    if path.is_dir():
        if not (unet_folder(path) / CONFIG).is_file():
            raise WeightsError(f"{path}: no UNet in it: its folder has {CONFIG} and weights", parameter=PARAMETER)
        check_config("unet", read_json_object(unet_folder(path) / CONFIG), unet_folder(path) / CONFIG)
        if not tensors:
            weight_files(unet_folder(path))  # says what is there instead
    if kind_of(tensors) not in ("unet", "checkpoint"):
        check_kind(tensors, "unet", path, PARAMETER)
    found = family_of(tensors, path)
    if found != family:
        what = f"of the family {found} ({FAMILY_NAMES[found]}), preset {preset} is for {family}"
        raise WeightsError(
            f"{path}: {what}. Nearest: ", option("preset", FAMILY_ROWS[found].preset), parameter=PARAMETER
        )
    if path.is_file():
        _check_file(unet.header, model, configs)
    else:
        config = unet_folder(path) / CONFIG
        check_tensors("unet", read_json_object(config), shapes_of(unet.unet_tensors), config)


def unet_config(model: WeightFile, unet: WeightFile | None, configs: Path) -> dict[str, Any] | None:
    """The checked config of the UNet in use: of the model, or of the one that is used in place of its own.

    configs: the folder in diffusers layout whose configs a model in one file takes. None if the model, or its config,
    is not on this machine.
    """
    drawing = unet if unet is not None and unet.path is not None else model
    if model.path is None or drawing.path is None:
        return None
    base = model.path if model.path.is_dir() else configs
    path = (unet_folder(drawing.path) if drawing.path.is_dir() else base / "unet") / CONFIG
    if not path.is_file():
        return None
    config = read_json_object(path)
    if drawing.path.is_file():
        config = with_settings_of(drawing.tensors, config)
    check_config("unet", config, path)
    return config


def _check_file(header: Header, model: WeightFile, configs: Path) -> None:
    """Raises WeightsError for a tensor of a file that is no part of the model's UNet, and for one that is missing."""
    if kind_of(header.tensors) == "checkpoint":
        check_single_file(header)
    if model.path is None:
        return
    base = model.path if model.path.is_dir() else configs
    if cache_folder() not in base.parents:  # of the hub's, what is missing is fetched
        read_json_object(base / "unet" / CONFIG)
    ours, theirs = _shapes(header.tensors), _shapes(model.unet_tensors)
    if not theirs or _naming(header.tensors) != _naming(model.unet_tensors):
        check_single_file_shapes(header, base, ("unet",), PARAMETER)
        return
    if name := first_difference(ours, theirs):
        what = f"its {shown(name)} is {_text(ours.get(name))}, that of {model.path} {_text(theirs.get(name))}"
        raise WeightsError(f"{header.path}: {what}: a UNet for another model", parameter=PARAMETER)


def _shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    """The shapes of a UNet's tensors without their prefix in the file, and without the guidance embedding."""
    way, dropped = named(tensors, "unet"), set(unused(tensors))
    prefix = "" if way is None else way.prefix
    shapes = {
        name.removeprefix(prefix): info.shape
        for name, info in tensors.items()
        if name not in dropped and name.startswith(prefix)
    }
    return {name: shape for name, shape in shapes.items() if name not in GUIDANCE}


def _naming(tensors: Tensors) -> str:
    way = named(tensors, "unet")
    return "" if way is None else way.naming


def _text(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(shape)
