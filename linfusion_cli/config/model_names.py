"""Names instead of paths: what an option or a preset calls by name is looked up in the configured folders of models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from linfusion_cli.config.extras import preset_name
from linfusion_cli.config.one_look import looks_once
from linfusion_cli.config.options import by_key
from linfusion_cli.config.preset_schema import Preset
from linfusion_cli.config.presets import Loaded, load_preset
from linfusion_cli.config.request import Request
from linfusion_cli.config.user_defaults import user_defaults
from linfusion_cli.config.weighted_lora import split_location
from linfusion_cli.errors import WeightsError
from linfusion_cli.files import leads_somewhere, user_path
from linfusion_cli.weights.model_folders import FOLDERS, ModelFolders, model_roots

WORDS = {"none", ""}  # values that are no names


def configured_folders() -> ModelFolders:
    """The folders of models of this user: of LINFUSION_MODELS, else of config.toml, else the one beside that file."""
    own = user_defaults().get("models")
    named = own.value if own is not None and isinstance(own.value, list) else []
    return ModelFolders(model_roots(tuple(Path(str(one)) for one in named)))


def folders_of(request: Request) -> ModelFolders:
    """The folders of models that a request names, else those of LINFUSION_MODELS, else the one beside config.toml."""
    return _folders(request.models)


@looks_once
def _folders(named: tuple[Path, ...]) -> ModelFolders:
    return ModelFolders(model_roots(named))


def with_paths(request: Request, folders: ModelFolders) -> Request:
    """The request with paths for names. Raises WeightsError for a name of no file, or of two.

    A value that is a path, a link, a name on the hub or a built-in model stays as it is; without a configured folder,
    every value does.
    """
    changes: dict[str, Any] = {}
    for key in FOLDERS if folders.roots else ():
        value = getattr(request, key)
        try:
            if isinstance(value, tuple):
                changes[key] = tuple(path_for(one, key, folders) for one in value)
            elif value is not None:
                changes[key] = path_for(value, key, folders)
        except WeightsError as error:
            raise WeightsError(error, parameter="" if error.parameter else key) from error
    return replace(request, **changes) if changes else request


def check_model(values: Mapping[str, Any]) -> None:
    """Raises WeightsError if the family of a model by its name or path can't be told, as it is not on this machine."""
    folders = tuple(map(Path, values.get("models") or ()))
    request = Request(prompt="", preset=values.get("preset"), model=values.get("model"), models=folders)
    found = with_paths(request, folders_of(request))
    preset_name(found.preset, found.model)


def load_named(name: str, folders: ModelFolders) -> Loaded:
    """A preset, with paths for names. Raises as load_preset() and preset_with_paths() do."""
    return preset_with_paths(load_preset(name), folders)


def preset_with_paths(loaded: Loaded, folders: ModelFolders) -> Loaded:
    """The same for what a preset names. Raises WeightsError with the line of the file.

    Of several locations in a list of alternatives, a name of no file stays.
    """
    changed: dict[str, dict[str, Any]] = {}
    for key in FOLDERS if folders.roots else ():
        row = by_key()[key]
        section, _, field = row.preset_key.partition(".")
        value = getattr(getattr(loaded.settings, section), field)
        try:
            changed.setdefault(section, {})[field] = (
                tuple(path_for(one, key, folders, may_miss=row.preset_takes_list and len(value) > 1) for one in value)
                if isinstance(value, tuple)
                else path_for(value, key, folders)
            )
        except WeightsError as error:
            raise WeightsError(loaded.origins[row.preset_key], ": ", error) from error
    return replace(loaded, settings=_updated(loaded.settings, changed)) if changed else loaded


def path_for(value: str, key: str, folders: ModelFolders, *, may_miss: bool = False) -> str:
    """A value with its name replaced; numbers and tokens behind a colon stay.

    may_miss: a name of no file stays as it is
    """
    name, rest = value, ""
    if key in ("loras", "textual_inversions") and not leads_somewhere(user_path(value)):
        if key == "loras":
            name, rest = split_location(value)
        elif found := re.fullmatch(r"(.+?)(:.*)", value):
            name, rest = found[1], found[2]
    if name in WORDS or ":" in name or leads_somewhere(user_path(name)):
        return value
    if may_miss or "/" in name:  # of a file in a subfolder, or of a repository on the hub
        inside = folders.find(name, key)
        return value if inside is None else f"{inside}{rest}"
    return f"{folders.path_of(name, key)}{rest}"


def _updated(settings: Preset, changed: dict[str, dict[str, Any]]) -> Preset:
    sections = {name: getattr(settings, name).model_copy(update=fields) for name, fields in changed.items()}
    return settings.model_copy(update=sections)
