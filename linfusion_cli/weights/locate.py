"""Finds weights on this machine: built in, a folder, a file, or the hub's cache. Never the network."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from linfusion_cli.errors import WeightsError, option
from linfusion_cli.models import builtin_folder
from linfusion_cli.weights.folder_advice import refuse_cache_folder
from linfusion_cli.weights.safetensors_header import ENDING, refuse_pickle
from linfusion_cli.weights.web_links import advice, hub_name, is_link

SAMPLES, SAMPLE_BYTES = 16, 1 << 16
PART = re.compile(r"[A-Za-z0-9_][\w.-]*")  # of a name on the hub: no ".." and nothing hidden


@dataclass(frozen=True, slots=True)
class HubPlace:
    """A location on the hub: "owner/name", "owner/name@revision", or with a path: "owner/name/sub/x.safetensors"."""

    repository: str
    revision: str  # "" = main
    inside: str  # "" = the whole repository

    @staticmethod
    def parse(place: str, revision: str = "") -> HubPlace | None:
        """None if the text can't be a place on the hub."""
        words, _, own = (hub_name(place) if is_link(place) else place).partition("@")
        parts = words.split("/")
        if len(parts) < 2 or not all(
            PART.fullmatch(part) for part in [*parts, *(own or revision or "main").split("/")]
        ):
            return None
        return HubPlace("/".join(parts[:2]), own or revision, "/".join(parts[2:]))

    def __str__(self) -> str:
        return (
            self.repository
            + (f"/{self.inside}" if self.inside else "")
            + (f"@{self.revision}" if self.revision else "")
        )


def find(place: str, revision: str = "") -> Path | None:
    """The folder or file of a location, None if it is not on this machine. Raises WeightsError for a pickle (.ckpt)."""
    path = builtin_folder(place) or Path(place).expanduser()
    if path.exists():
        if path.is_file():
            refuse_pickle(path)
        else:
            refuse_cache_folder(path)
        return path
    hub = HubPlace.parse(place, revision)
    return None if hub is None else _cached(hub)


def find_first(places: tuple[str, ...], revision: str, parameter: str) -> Path:
    """The first of the places that is on this machine; WeightsError, with the command that fetches them, if none is."""
    for place in places:
        if found := find(place, revision):
            return found
    raise missing(places, revision, parameter)


def missing(places: tuple[str, ...], revision: str, parameter: str, preset: str = "") -> WeightsError:
    """What to say, and to type, when none of the places is on this machine; preset: of which they are a part."""
    for place in places:
        if is_link(place) and not hub_name(place):
            return WeightsError(f"{place}: {advice(place)}", parameter=parameter)
        if (place.endswith((ENDING, "/")) and HubPlace.parse(place) is None) or place.startswith((".", "~", "/")):
            return WeightsError(f"{place}: there is no such file or folder", parameter=parameter)
    names = ", ".join(places)
    at = f"@{revision}" if revision and "@" not in places[0] else ""
    return WeightsError(
        f"weights are not on this machine: {names}. Fetch them with: linfusion fetch ",
        preset or option(parameter, f"{places[0]}{at}"),
    )


def cache_folder() -> Path:
    """Where the hub's downloads are kept on this machine (HF_HUB_CACHE)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _cached(hub: HubPlace) -> Path | None:
    folder = cache_folder() / f"models--{hub.repository.replace('/', '--')}"
    revision = hub.revision or "main"
    reference = folder / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    snapshot = folder / "snapshots" / commit
    found = snapshot / hub.inside if hub.inside else snapshot
    return found if found.exists() else None


def fingerprint(place: Path) -> str:
    """A short key of a file's or a folder's contents, from sizes and samples: other weights give another key.

    Reads at most SAMPLES blocks of each file, so that it costs little beside an image; it is no protection against
    damage.
    """
    digest = hashlib.sha256()
    for path in _files(place):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(place) if path != place else ''} {size}\n".encode())
        with path.open("rb") as file:
            for sample in range(SAMPLES if size > SAMPLES * SAMPLE_BYTES else 1):
                file.seek(sample * (size // SAMPLES))
                digest.update(file.read(SAMPLE_BYTES if size > SAMPLES * SAMPLE_BYTES else size))
    return digest.hexdigest()[:16]


def stamp(place: Path) -> str:
    """A short key of the names, sizes and times of a file or of a folder's files; reads none of them."""
    digest = hashlib.sha256()
    for path in _files(place):
        status = path.stat()
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _files(place: Path) -> list[Path]:
    """The file itself, or the weights and configs in a folder, in order."""
    if place.is_file():
        return [place]
    return sorted(path for path in place.rglob("*") if path.is_file() and path.suffix in (ENDING, ".json"))
