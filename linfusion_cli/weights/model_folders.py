"""Folders of models as AUTOMATIC1111 and ComfyUI lay them out, or flat: what they hold, which file a name means."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from linfusion_cli.errors import WeightsError, nearest_name
from linfusion_cli.files import user_path
from linfusion_cli.weights.listed_kind import KINDS, kinds_inside
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
MOST_CANDIDATES = 3
# A1111 reads an autoencoder of this name for the checkpoint beside it.
VAE_ENDINGS = tuple(f".vae{ending}" for ending in (ENDING, *PICKLES))
# Names that libraries give to every file of a kind: the folder's name tells more.
GENERIC = {"adapter_model", "diffusion_pytorch_model", "learned_embeds", "model", "pytorch_lora_weights"}


@dataclass(frozen=True, slots=True)
class Listed:
    """A file or a folder in diffusers layout that can be named.

    kind: a key of FOLDERS; "" for what no option takes as it is, a pickle or a damaged file in a flat folder
    """

    kind: str
    name: str
    path: Path


@dataclass(frozen=True)
class ModelFolders:
    """The configured folders, walked once. Raises WeightsError, when first asked, for a folder that is not there."""

    roots: tuple[Path, ...]

    def listed(self, kind: str = "") -> list[Listed]:
        """Everything that a kind's option can be given ("": each thing once, by its kind), in order."""
        found = [
            Listed(one, _name(path), path)
            for path, of_folder in self._files.items()
            for one in _each(kinds_inside(path, of_folder & {kind} if kind else of_folder, of_folder))
        ]
        return sorted(_without_converted(found), key=lambda item: (item.kind, item.name, str(item.path)))

    def path_of(self, name: str, kind: str) -> Path:
        """The file or folder of a kind that a name means, with or without its ending and its subfolders.

        Raises WeightsError for a name of several files, with names for each, and for one of none, with the nearest.
        """
        if (path := self.find(name, kind)) is not None:
            return path
        near = nearest_name(name, {item.name for item in self.listed(kind)})
        advice = f'Did you mean "{near}"?' if near else "See: linfusion models"
        where = f"{self.roots[0]}{f' and {len(self.roots) - 1} more' if len(self.roots) > 1 else ''}"
        raise WeightsError(f"{name}: there is none of that name under {where}. {advice}")

    def find(self, name: str, kind: str) -> Path | None:
        """The same; None for a name of none."""
        parts = Path(name).parts
        named = {path: kinds for path, kinds in self._files.items() if _fits(parts, path)}
        found = [
            Listed(kind, _name(path), path)
            for path, kinds in named.items()
            if kinds_inside(path, kinds & {kind}, kinds)
        ]
        fitting = [item.path for item in _without_converted(found)]
        if len(fitting) > 1:
            ways = ", ".join(_way(path, fitting) for path in fitting[:MOST_CANDIDATES])
            more = f" and {len(fitting) - MOST_CANDIDATES} more" if len(fitting) > MOST_CANDIDATES else ""
            raise WeightsError(f"{name}: names {len(fitting)} files. Give one of: {ways}{more}")
        return fitting[0] if fitting else None

    @cached_property
    def _files(self) -> dict[Path, frozenset[str]]:
        """Every file, with the kinds that its folder is for; a file that links lead to twice is here once."""
        found: dict[Path, tuple[Path, frozenset[str]]] = {}
        for root in self.roots:
            if not root.is_dir():
                raise WeightsError(f"{root}: there is no such folder of models", parameter="models")
            for path, kinds in _inside(root):
                own = frozenset({"vae"}) if path.name.lower().endswith(VAE_ENDINGS) else kinds
                found.setdefault(path.resolve(), (path, own))
        return dict(found.values())


def model_roots(given: tuple[Path, ...] = ()) -> tuple[Path, ...]:
    """The folders given, else those that LINFUSION_MODELS names, else `models` in the user's configuration.

    The last may be a link.
    """
    from platformdirs import user_config_path

    named = given or tuple(user_path(text) for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text)
    default = user_config_path("linfusion") / "models"
    return tuple(user_path(str(path)) for path in named) or ((default,) if default.is_dir() else ())


def _each(kinds: frozenset[str]) -> frozenset[str]:
    """The kinds, or "" for what is of every kind because it can't be read."""
    return frozenset({""}) if kinds == KINDS else kinds


def _name(path: Path) -> str:
    return path.name if path.is_dir() else path.parent.name if path.stem in GENERIC else path.stem


def _fits(parts: tuple[str, ...], path: Path) -> bool:
    """Whether a name's parts are the end of a path, with or without its ending; the whole of a generic file's."""
    ends = [path.parts] if path.is_dir() else [path.parts, path.with_name(path.stem).parts]
    if path.stem in GENERIC:
        ends.append(path.parent.parts)
    return any(parts == end[-len(parts) :] for end in ends)


def _way(path: Path, others: list[Path]) -> str:
    """The shortest name with subfolders that means this file alone; its path where there is none."""
    for count in range(2, len(path.parts)):
        for end in (path.with_name(_ending_less(path)).parts[-count:], path.parts[-count:]):
            if [one for one in others if _fits(end, one)] == [path]:
                return "/".join(end)
    return str(path)


def _ending_less(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _without_converted(found: list[Listed]) -> list[Listed]:
    """The list without pickles that have a safetensors file of the same name beside them."""
    safe = {(item.kind, item.path.with_suffix("")) for item in found if item.path.suffix.lower() == ENDING}
    return [
        item
        for item in found
        if item.path.suffix.lower() not in PICKLES or (item.kind, item.path.with_suffix("")) not in safe
    ]


def _inside(root: Path) -> Iterator[tuple[Path, frozenset[str]]]:
    """The weights under a root, each with the kinds that its folder is for: all of them in a flat folder.

    A root without any folder of a known name is flat: everything in it counts, at any depth. Of one in a known layout
    the files that lie in the root itself count too.
    """
    known = [
        (folder, kinds)
        for base in (root / inner for inner in ROOTS)
        for folder in (sorted(base.iterdir()) if base.is_dir() else ())
        if (kinds := _kinds_for(folder.name)) and folder.is_dir()
    ]
    for folder, kinds in known:
        yield from ((path, kinds) for path in _weights(folder))
    for path in _files_in(root) if known else _weights(root):
        yield path, _kinds_for(root.name) or KINDS


def _kinds_for(name: str) -> frozenset[str]:
    return frozenset(kind for kind, names in FOLDERS.items() if name.lower() in names)


def _files_in(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.iterdir()) if path.is_file() and _is_weights(path.name))


def _is_weights(name: str) -> bool:
    return name.lower().endswith((ENDING, *PICKLES))


def _weights(folder: Path) -> Iterator[Path]:
    """Weight files, pickles among them, and whole folders in diffusers layout, into which it does not look."""
    count, seen = 0, {os.path.realpath(folder)}
    for where, folders, files in os.walk(folder, followlinks=True):
        count += len(files)
        if count > MOST_FILES:
            raise WeightsError(f"{folder}: more than {MOST_FILES:,} files: not a folder of models")
        if {"model_index.json", "config.json"} & set(files) and Path(where) != folder:
            folders.clear()
            yield Path(where)
            continue
        real = {name: os.path.realpath(os.path.join(where, name)) for name in sorted(folders)}
        folders[:] = [name for name, path in real.items() if path not in seen and not name.startswith(".")]
        seen.update(real[name] for name in folders)
        yield from (Path(where) / name for name in sorted(files) if _is_weights(name))
