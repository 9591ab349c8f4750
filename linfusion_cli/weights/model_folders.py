"""Folders of models as AUTOMATIC1111 and ComfyUI lay them out: what they hold, by kind, and which file a name means."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from linfusion_cli.errors import WeightsError, nearest_name
from linfusion_cli.files import user_path
from linfusion_cli.weights.safetensors_header import ENDING, PICKLES

VARIABLE = "LINFUSION_MODELS"
# Kind, by the option's key -> the names of its folders, in lower case.
FOLDERS: dict[str, tuple[str, ...]] = {
    "model": ("stable-diffusion", "checkpoints", "diffusers"),
    "unet": ("unet", "diffusion_models"),
    "loras": ("lora", "loras", "lycoris"),
    "vae": ("vae",),
    "controlnets": ("controlnet", "t2i_adapter"),
    "ip_adapter": ("ipadapter", "ip-adapter", "controlnet"),
    "ip_encoder": ("clip_vision", "clipvision"),
    "textual_inversions": ("embeddings",),
    "linfusion": ("linfusion",),
}
ROOTS = ("", "models")  # of a program's folder: A1111 has embeddings/ beside models/
MOST_FILES = 100_000


@dataclass(frozen=True, slots=True)
class Listed:
    """A file or a folder in diffusers layout that can be named. kind: a key of FOLDERS."""

    kind: str
    name: str
    path: Path


def model_roots() -> tuple[Path, ...]:
    """The folders that LINFUSION_MODELS names, else `models` in the user's configuration, which may be a link."""
    from platformdirs import user_config_path

    named = [user_path(text) for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text]
    default = user_config_path("linfusion") / "models"
    return tuple(named) or ((default,) if default.is_dir() else ())


def listed(roots: tuple[Path, ...], kind: str = "") -> list[Listed]:
    """Everything of a kind ("": of every kind), in order. Raises WeightsError for a folder that is not there."""
    found: dict[tuple[str, Path], Listed] = {}
    for root in roots:
        if not root.is_dir():
            raise WeightsError(f"{root}: there is no such folder of models ({VARIABLE})")
        for one, names in FOLDERS.items():
            for path in _inside(root, names) if kind in ("", one) else ():
                found.setdefault((one, path.resolve()), Listed(one, _name(path), path))
    return sorted(found.values(), key=lambda item: (item.kind, item.name, str(item.path)))


def path_of(name: str, kind: str, roots: tuple[Path, ...]) -> Path | None:
    """The file or folder of a kind that a name means, with or without its ending; None where no folder is configured.

    Raises WeightsError for a name of two files, which it shows, and for one of none, with the nearest that there is.
    """
    if not roots:
        return None
    have = listed(roots, kind)
    fitting = [item.path for item in have if name in (item.name, item.path.name)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise WeightsError(
            f"{name}: names {len(fitting)} files: {fitting[0]} and {fitting[1]}. Give one of these paths"
        )
    near = nearest_name(name, {item.name for item in have})
    advice = f'Did you mean "{near}"?' if near else "See: linfusion models"
    raise WeightsError(f"{name}: there is none of that name under {roots[0]}. {advice}")


def path_inside(name: str, kind: str, roots: tuple[Path, ...]) -> Path | None:
    """The file or folder of a kind that a name with subfolders ("styles/ink") means; None if there is none.

    Raises WeightsError for a name of two files, which it shows.
    """
    parts = Path(name).parts
    fitting = [
        item.path
        for item in listed(roots, kind)
        if parts in (item.path.parts[-len(parts) :], item.path.with_name(item.name).parts[-len(parts) :])
    ]
    if len(fitting) > 1:
        raise WeightsError(
            f"{name}: names {len(fitting)} files: {fitting[0]} and {fitting[1]}. Give one of these paths"
        )
    return fitting[0] if fitting else None


def _name(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _inside(root: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """The weights in the folders of these names, at any depth below them."""
    for base in (root / inner for inner in ROOTS):
        for folder in sorted(base.iterdir()) if base.is_dir() else ():
            if folder.name.lower() in names and folder.is_dir():
                yield from _weights(folder)


def _weights(folder: Path) -> Iterator[Path]:
    """Weight files, pickles among them, and whole folders in diffusers layout, into which it does not look."""
    seen = 0
    for where, folders, files in os.walk(folder, followlinks=True):
        seen += len(files)
        if seen > MOST_FILES:
            raise WeightsError(f"{folder}: more than {MOST_FILES:,} files: no folder of models")
        if {"model_index.json", "config.json"} & set(files) and Path(where) != folder:
            folders.clear()
            yield Path(where)
            continue
        folders.sort()
        yield from (Path(where) / name for name in sorted(files) if name.lower().endswith((ENDING, *PICKLES)))
