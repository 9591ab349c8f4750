"""Finds weights on this machine: built in, a folder, a file, or the hub's cache. Never the network."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from linfusion_cli.errors import Option, WeightsError, option
from linfusion_cli.files import leads_somewhere, user_path
from linfusion_cli.models import PREFIX, builtin_folder, builtin_names
from linfusion_cli.weights.folder_advice import refuse_cache_folder
from linfusion_cli.weights.safetensors_header import ENDING, Header, raw_header, refuse_pickle
from linfusion_cli.weights.web_links import advice, hub_name, is_link

LONGEST_NAME_BYTES = 255  # of a file or a folder
LONGEST_HUB_NAME = 96  # characters of an owner or a repository, by the rules of the hub
SAMPLES, SAMPLE_BYTES = 16, 1 << 16
SHOWN_NAME = 60
ALLOWED = "Name a file, a folder, or a repository on the hub as OWNER/NAME"
PART = re.compile(r"[A-Za-z0-9_][\w.-]*")  # of a name on the hub: no ".." and nothing hidden


@dataclass(frozen=True, slots=True)
class HubLocation:
    """A location on the hub: "owner/name", "owner/name@revision", or with a path: "owner/name/sub/x.safetensors"."""

    repository: str
    revision: str  # "" = main
    inside: str  # "" = the whole repository

    @staticmethod
    def parse(location: str, revision: str = "") -> HubLocation | None:
        """None if the text can't be a location on the hub."""
        if _longest_name_bytes(location) > LONGEST_NAME_BYTES:
            return None
        words, _, own = (hub_name(location) if is_link(location) else location).partition("@")
        parts = words.split("/")
        if len(parts) < 2 or not all(
            PART.fullmatch(part) for part in [*parts, *(own or revision or "main").split("/")]
        ):
            return None
        if max(map(len, parts[:2])) > LONGEST_HUB_NAME:
            return None
        return HubLocation("/".join(parts[:2]), own or revision, "/".join(parts[2:]))

    def __str__(self) -> str:
        return (
            self.repository
            + (f"/{self.inside}" if self.inside else "")
            + (f"@{self.revision}" if self.revision else "")
        )


def find(location: str, revision: str = "") -> Path | None:
    """The folder or file of a location, None if it is not on this machine. Raises WeightsError for a pickle (.ckpt)."""
    if not location.strip():
        return None
    path = builtin_folder(location) or user_path(location)
    if leads_somewhere(path):
        if path.is_file():
            refuse_pickle(path)
        elif not path.is_dir():
            raise WeightsError(f"{location}: it is a pipe, a device or a socket, not a file or a folder of weights")
        else:
            refuse_cache_folder(path)
        return path
    hub = HubLocation.parse(location, revision)
    return None if hub is None else _cached(hub)


def missing(locations: tuple[str, ...], revision: str, parameter: str, preset: str = "") -> WeightsError:
    """What to say, and to type, when none of the locations is on this machine; preset: of which they are a part."""
    return nowhere(locations, parameter) or WeightsError(
        f"weights are not on this machine: {', '.join(locations)}. Fetch them with: linfusion fetch ",
        preset or fetch_option(locations, revision, parameter),
    )


def fetch_option(locations: tuple[str, ...], revision: str, parameter: str) -> Option:
    """The option of `linfusion fetch` that brings the first of these locations."""
    at = f"@{revision}" if revision and "@" not in locations[0] else ""
    return option(parameter, f"{locations[0]}{at}")


def nowhere(locations: tuple[str, ...], parameter: str) -> WeightsError | None:
    """Why none of these missing locations can be fetched; None if one can."""
    for location in locations:
        if is_link(location) and not hub_name(location):
            return WeightsError(f"{location}: {advice(location)}", parameter=parameter)
        hub = HubLocation.parse(location)
        if not location.strip() or location.startswith(":"):
            return WeightsError(f'"{location}" {_no_location(location)}. {ALLOWED}', parameter=parameter)
        if location.startswith(PREFIX):
            allowed = ", ".join(f"{PREFIX}{name}" for name in builtin_names())
            return WeightsError(f"{location}: there is no such built-in model. Allowed: {allowed}", parameter=parameter)
        if (longest := _longest_name_bytes(location)) > LONGEST_NAME_BYTES:
            why = f"no file and no repository has a name of {longest} bytes; at most {LONGEST_NAME_BYTES} are allowed"
            return WeightsError(f"{location[:SHOWN_NAME]}...: {why}", parameter=parameter)
        if "/" not in location and ":" not in location and not location.endswith(ENDING):
            what = f"{location}: there is no such file or folder. A name alone is looked up in a folder of models: "
            return WeightsError(what, option("models", "FOLDER"), parameter=parameter)
        no_hub_name = location.endswith((ENDING, "/")) and (hub is None or not hub.inside)  # a repository is no file
        if no_hub_name or location.startswith((".", "~", "/")):
            return WeightsError(f"{location}: there is no such file or folder", parameter=parameter)
        if hub is None:
            why = "there is no such file or folder, and a repository on the hub is written OWNER/NAME"
            return WeightsError(f"{location}: {why}", parameter=parameter)
    return None


def _longest_name_bytes(location: str) -> int:
    return max(len(os.fsencode(part)) for part in location.split("/"))


def _no_location(text: str) -> str:
    return "has a weight and no location before it" if text.strip(": ") else "names no weights"


def cache_folder() -> Path:
    """Where the hub's downloads are kept on this machine (HF_HUB_CACHE)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _cached(hub: HubLocation) -> Path | None:
    folder = cache_folder() / f"models--{hub.repository.replace('/', '--')}"
    revision = hub.revision or "main"
    reference = folder / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    snapshot = folder / "snapshots" / commit
    found = snapshot / hub.inside if hub.inside else snapshot
    return found if found.exists() else None


def local_path(location: str) -> Path | None:
    """The path of weights that somebody could exchange; None for others, and for those that are not on this machine.

    Those of the package can't be exchanged, nor those of the hub's cache, which names files by their hash.
    """
    exchangeable = builtin_folder(location) is None and leads_somewhere(user_path(location))
    return find(location) if exchangeable else None


def fingerprint(location: Path) -> str:
    """A short key of a file's or a folder's contents, from sizes and samples: other weights give another key.

    Reads at most SAMPLES blocks of each file, so that it costs little beside an image; it is no protection against
    damage.
    """
    digest = hashlib.sha256()
    for path in _files(location):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(location) if path != location else ''} {size}\n".encode())
        with path.open("rb") as file:
            for sample in range(SAMPLES if size > SAMPLES * SAMPLE_BYTES else 1):
                file.seek(sample * (size // SAMPLES))
                digest.update(file.read(SAMPLE_BYTES if size > SAMPLES * SAMPLE_BYTES else size))
    return digest.hexdigest()[:16]


def stamp(path: Path, headers: Iterable[Header]) -> str:
    """A short key of the names, sizes and times of a file or of a folder's files, and of the headers as they are now.

    Reads no tensors. A file that is gone counts as empty.
    """
    digest = hashlib.sha256()
    for file in _files(path):
        status = file.stat()
        digest.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    for header in headers:
        digest.update(raw_header(header.path))
    return digest.hexdigest()[:16]


def _files(location: Path) -> list[Path]:
    """The file itself, or the weights and configs in a folder, in order."""
    if location.is_file():
        return [location]
    return sorted(path for path in location.rglob("*") if path.is_file() and path.suffix in (ENDING, ".json"))
