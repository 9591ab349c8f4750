"""Checks of everything that configs and headers tell of a model, before anything is planned or loaded."""

from __future__ import annotations

from pathlib import Path

from linfusion_cli.errors import WeightsError
from linfusion_cli.models import family_folder
from linfusion_cli.weights.config_rules import check_config
from linfusion_cli.weights.config_shapes import check_shapes
from linfusion_cli.weights.controlnet_union import check_mode, is_union
from linfusion_cli.weights.model_family import check_kind
from linfusion_cli.weights.pipeline_settings import (
    INDEX,
    read_json_object,
    read_pipeline_settings,
)
from linfusion_cli.weights.single_file import check_single_file
from linfusion_cli.weights.t2i_adapter import check_t2i_adapter, is_t2i_adapter
from linfusion_cli.weights.tokenizer_files import check_tokenizer
from linfusion_cli.weights.unet_file import refuse_unet_alone
from linfusion_cli.weights.weight_file import WeightFile

CLIP_POSITIONS, CLIP_WORDS = 77, 49408  # of configs that do not say it, as in transformers
PARTS = ("unet", "vae", "scheduler", "text_encoder", "text_encoder_2")


def check_model(weights: WeightFile, path: Path, family: str, configs: Path | None) -> None:
    """Checks a folder in diffusers layout, or a single file with the configs that stand in for its own.

    Raises WeightsError that names the file and what of it linfusion can't use.
    """
    if configs is not None and not configs.is_dir():
        raise WeightsError(f"model.configs: {configs}: there is no such folder")
    if path.is_file():
        refuse_unet_alone(weights.header)
        check_single_file(weights.header)
        folder = configs or family_folder(family)
    else:
        folder = path
    if (folder / INDEX).exists() or path.is_dir():
        read_pipeline_settings(folder)
    for part in PARTS:
        check_part(folder, part, part)
    check_shapes(weights.headers)
    for suffix in ("", "_2"):
        encoder = folder / f"text_encoder{suffix}" / "config.json"
        if encoder.exists():
            config = read_json_object(encoder)
            positions = int(config.get("max_position_embeddings", CLIP_POSITIONS))
            check_tokenizer(folder / f"tokenizer{suffix}", int(config.get("vocab_size", CLIP_WORDS)), positions)


def check_part(folder: Path, part: str, inside: str = "") -> None:
    """Checks the config of one part, where there is one; a file that is missing is found when it is loaded."""
    path = folder / inside / ("scheduler_config.json" if part == "scheduler" else "config.json")
    if path.exists():
        check_config(part, read_json_object(path), path)


def check_controlnet(weights: WeightFile, path: Path, mode: int | None) -> None:
    """Checks the config of a ControlNet or T2I-Adapter, that its files hold one, and that it has the mode.

    mode: the number of a ControlNet-union's mode, None for none
    """
    if is_t2i_adapter(path, weights.headers):
        check_t2i_adapter(path, weights.headers, ())
        check_mode({}, mode, path)
        return
    tensors = weights.tensors
    if path.is_dir():
        check_part(path, "controlnet_union" if is_union(tensors) else "controlnet")
    if tensors:
        check_kind(tensors, "controlnet", path, "controlnet")
        check_mode(tensors, mode, path)


def check_vae(path: Path) -> None:
    """Checks the config of an autoencoder's folder, or of a model's folder of which the autoencoder is taken."""
    if path.is_dir():
        check_part(path, "vae", "vae" if (path / "vae").is_dir() else "")
