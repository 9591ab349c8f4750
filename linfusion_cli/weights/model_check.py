"""Checks of everything that configs and headers tell of a model, before anything is planned or loaded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.models import family_folder
from linfusion_cli.weights.config_rules import check_config
from linfusion_cli.weights.config_shapes import check_tensors, shapes_of
from linfusion_cli.weights.controlnet_file import controlnet_config
from linfusion_cli.weights.controlnet_union import check_mode
from linfusion_cli.weights.families import FAMILY_ROWS
from linfusion_cli.weights.locate import cache_folder
from linfusion_cli.weights.model_family import check_kind, kind_of
from linfusion_cli.weights.pipeline_settings import (
    INDEX,
    read_json_object,
    read_pipeline_settings,
)
from linfusion_cli.weights.required_parts import require_parts
from linfusion_cli.weights.requirements import missing_parts
from linfusion_cli.weights.safetensors_header import Header
from linfusion_cli.weights.single_file import check_single_file
from linfusion_cli.weights.single_file_layouts import named
from linfusion_cli.weights.single_file_shapes import check_single_file_shapes
from linfusion_cli.weights.t2i_adapter import check_t2i_adapter, is_t2i_adapter
from linfusion_cli.weights.tokenizer_files import check_tokenizer
from linfusion_cli.weights.unet_file import refuse_unet_alone
from linfusion_cli.weights.weight_file import WeightFile, headers_in

CLIP_POSITIONS, CLIP_WORDS = 77, 49408  # of configs that do not say it, as in transformers
TINY = ("decoder.layers.", "encoder.layers.", "taesd_")  # tensors of TAESD
PARTS = ("unet", "vae", "scheduler", "text_encoder", "text_encoder_2")


def check_model(
    weights: WeightFile, path: Path, family: str, configs: Path | None, replaced: Collection[str] = ()
) -> None:
    """Checks a folder in diffusers layout, or a single file with the configs that stand in for its own.

    replaced: parts that others are used for: of these, what is there is checked, and nothing must be there.
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
        check_part(folder, part, part, weights.headers)
    if path.is_file():
        check_single_file_shapes(weights.header, folder)
    for suffix in ("", "_2"):
        encoder = folder / f"text_encoder{suffix}" / "config.json"
        if encoder.exists():
            config = read_json_object(encoder)
            positions = int(config.get("max_position_embeddings", CLIP_POSITIONS))
            check_tokenizer(folder / f"tokenizer{suffix}", int(config.get("vocab_size", CLIP_WORDS)), positions)
    if path.is_file() or not _to_fetch(path, replaced):
        require_parts(weights, folder, replaced, two_text_encoders=FAMILY_ROWS[family].two_text_encoders)


def check_part(folder: Path, part: str, inside: str = "", headers: Iterable[Header] = ()) -> None:
    """Checks the config of one part, and the tensors of its files against it.

    What is not there is passed over: it is found when the part is loaded.
    """
    path = folder / inside / ("scheduler_config.json" if part == "scheduler" else "config.json")
    if not path.exists():
        return
    config = read_json_object(path)
    check_config(part, config, path)
    own = [header for header in headers if header.path.parent == path.parent]
    if own and part != "scheduler":
        check_tensors(part, config, shapes_of({n: t for header in own for n, t in header.tensors.items()}), path)


def _to_fetch(path: Path, replaced: Collection[str]) -> bool:
    """Whether a model of the hub's cache lacks parts, which the plan tells with the command that fetches them."""
    return cache_folder() in path.parents and bool(missing_parts(path, "model", "", tuple(replaced)))


def check_controlnet(weights: WeightFile, path: Path, mode: int | None, unet: Mapping[str, Any] | None) -> None:
    """Checks a ControlNet or T2I-Adapter by its config and tensors, that it has the mode, and that it is for the UNet.

    mode: the number of a ControlNet-union's mode, None for none; unet: the config of the UNet, None if it is not here
    """
    if is_t2i_adapter(path, weights.headers):
        check_t2i_adapter(path, weights.headers, unet)
        check_mode({}, mode, path)
    elif weights.headers:
        controlnet_config(path, weights.tensors, unet)
        check_mode(weights.tensors, mode, path)
    else:
        check_part(path, "controlnet")
        _require_weights(weights, path)


def check_vae(weights: WeightFile, configs: Path) -> None:
    """Checks an autoencoder: in a folder, in that of a model, or in one file.

    configs: a folder in diffusers layout, with the config of an autoencoder in one file
    """
    if (path := weights.path) is None:
        return
    if path.is_file():
        if kind_of(weights.tensors) not in ("vae", "checkpoint"):
            check_kind(weights.tensors, "vae", path, "vae")
        if named(weights.tensors, "vae") is None:
            tiny = any(name.startswith(TINY) for name in weights.tensors)
            what = "TAESD, a tiny autoencoder, which linfusion can't run" if tiny else "holds no autoencoder"
            raise WeightsError(f"{path}: {what}. Take a full one (AutoencoderKL)", parameter="vae")
        check_single_file_shapes(weights.header, configs, ("vae",), "vae")
    else:
        inside = "vae" if (path / "vae").is_dir() else ""
        check_part(path, "vae", inside, weights.headers)
        _require_weights(weights, path / inside)


def _require_weights(weights: WeightFile, folder: Path) -> None:
    """Raises WeightsError for a folder without weights, but in the hub's cache, into which they are fetched."""
    if cache_folder() not in folder.parents:
        headers_in(weights.headers, folder)
