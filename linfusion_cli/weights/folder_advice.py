"""What a folder is that people take for a model's: of the hub's cache, of single files, one part alone."""

from __future__ import annotations

from pathlib import Path

from linfusion_cli.errors import WeightsError, option
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.safetensors_header import ENDING, PICKLES

CACHED = "models--"  # how folders of repositories begin in the hub's cache
SEVERAL = 3
CONFIG_BYTES = 1 << 16


def refuse_cache_folder(path: Path) -> None:
    """Raises WeightsError, with the repository's name, for a folder of the hub's cache instead of a snapshot in it."""
    if path.name.startswith(CACHED) and (path / "snapshots").is_dir():
        name = path.name.removeprefix(CACHED).replace("--", "/")
        raise WeightsError(f"{path}: a folder of the hub's cache. Name the repository: {name}")
    names = [entry.name for entry in sorted(path.glob(f"{CACHED}*"))[:SEVERAL]] if path.name == "hub" else []
    if names:
        listed = ", ".join(name.removeprefix(CACHED).replace("--", "/") for name in names)
        raise WeightsError(f"{path}: the hub's cache itself. Name one repository of it, such as: {listed}")


def refuse_no_model(path: Path) -> None:
    """Raises WeightsError, with what to name instead, for a folder that has no UNet where a model's folder has it."""
    if not path.is_dir() or (path / "unet").is_dir():
        return
    if _is_unet(path) and not (path.parent / "model_index.json").exists():
        raise WeightsError(f"{path}: a UNet alone. Name the model that it is for, and ", option("unet", str(path)))
    files = sorted(file.name for file in path.glob("*") if file.suffix.lower() in (ENDING, *PICKLES))
    models = sorted(folder.parent.name for folder in path.glob("*/unet"))
    if (path / "transformer").is_dir():
        what = "a model with a transformer (as Stable Diffusion 3 and Flux), which linfusion can't run"
    elif models:
        what = f"a folder of models. Name one: {path / models[0]}"
    elif files and (path / "config.json").is_file():
        what = f"one part of a model. Name the folder above it, which has model_index.json: {path.parent}"
    elif files:
        more = f" (and {len(files) - SEVERAL} more)" if len(files) > SEVERAL else ""
        what = f"no folder in diffusers layout. Name a file in it: {', '.join(map(shown, files[:SEVERAL]))}{more}"
    else:
        what = "no model in it: a folder in diffusers layout has model_index.json and unet/"
    raise WeightsError(f"{path}: {what}")


def _is_unet(path: Path) -> bool:
    """Whether a folder is that of a UNet alone, in diffusers layout."""
    config = path / "config.json"
    return config.is_file() and b"UNet2DConditionModel" in config.read_bytes()[:CONFIG_BYTES]
