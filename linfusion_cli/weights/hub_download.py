"""Downloads weights from the hub: only what is needed, resumable, checked against published hashes, and no pickles."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linfusion_cli.errors import BusyError, WeightsError
from linfusion_cli.files import free_bytes, sha256_of
from linfusion_cli.redaction import redacted
from linfusion_cli.weights.adapter_files import ENCODER, encoder_folder
from linfusion_cli.weights.checksums import verify
from linfusion_cli.weights.hub_compat import download, file_location, transport_errors
from linfusion_cli.weights.locate import HubLocation, cache_folder
from linfusion_cli.weights.requirements import Requirement, encoder_weights, files_of
from linfusion_cli.weights.safetensors_header import ENDING
from linfusion_cli.weights.weight_file import WeightFile

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Published:
    """A file on the hub: its size in bytes and its published hash (SHA-256, or git's SHA-1 of small files)."""

    name: str
    size_bytes: int
    sha256: str
    git_sha1: str


class UnavailableError(WeightsError):
    """A repository that can't be had: gone, gated, or there is no network. The next location may do."""


def fetch(requirement: Requirement, say: Say) -> Path:
    """Brings what is needed onto this machine, from the first of its locations that has it, and returns where it is.

    Raises WeightsError if no location has it, if a file is not what was published, or if the disk is too small.
    """
    problems: list[str] = []
    for location in requirement.locations:
        hub = HubLocation.parse(location, requirement.revision)
        if hub is None:
            problems.append(f"{location} is not a repository on the hub (owner/name)")
            continue
        try:
            return _fetch(requirement, hub, say)
        except UnavailableError as error:
            problems.append(str(error))
            if location is not requirement.locations[-1]:
                say(f"{error}; trying the next location")
    raise WeightsError("; ".join(problems))


def _fetch(requirement: Requirement, hub: HubLocation, say: Say) -> Path:
    """Downloads and checks what a requirement needs of a repository; returns its root on this machine."""
    published = _listed(hub)
    names = files_of(requirement, hub.inside, published)
    wanted = [published[name] for name in names]
    total = sum(file.size_bytes for file in wanted)
    _check_disk(total)
    say(f"{hub}: {len(wanted)} files, {total / 1e9:.2f} GB")
    for number, file in enumerate(wanted, 1):
        say(f"  {number}/{len(wanted)} {file.name} ({file.size_bytes / 1e6:.1f} MB)")
        path = _downloaded(hub, file)
    root = path
    for _ in Path(wanted[-1].name).parts:
        root = root.parent
    if requirement.kind == "ip-adapter":
        for name in _encoders(names, root, published, say):
            _downloaded(hub, published[name])
    return root / hub.inside if hub.inside else root


def _encoders(names: Iterable[str], root: Path, listed: Iterable[str], say: Say) -> list[str]:
    """The weights of the image encoders that the adapters downloaded to `root` read, chosen by their width."""
    found: list[str] = []
    for name in names:
        if name.endswith(ENDING) and f"/{ENCODER}/" not in f"/{name}":
            try:
                adapter = WeightFile.resolve((str(root / name),), "", "ip_adapter").header
                folder = encoder_folder(adapter, root)
            except WeightsError as error:  # it may be somewhere else
                say(f"{error}. Name the image encoder of this adapter")
                continue
            found += encoder_weights(folder.relative_to(root).as_posix(), listed)
    return [name for name in dict.fromkeys(found) if name not in names]


def _listed(hub: HubLocation) -> dict[str, Published]:
    from huggingface_hub import HfApi

    with _explained(hub):
        info = HfApi().model_info(hub.repository, revision=hub.revision or None, files_metadata=True, timeout=30)
    return {file.rfilename: _published(file) for file in info.siblings or []}


def _published(file: Any) -> Published:
    large = file.lfs.sha256 if file.lfs else ""
    return Published(file.rfilename, int(file.size or 0), large, "" if large else file.blob_id or "")


def _downloaded(hub: HubLocation, file: Published) -> Path:
    """One file, from the cache, from where an interrupted download stopped, or anew."""
    from huggingface_hub import hf_hub_download

    with _explained(hub):
        if file.sha256:
            complete_blob(hub, file.name, file.sha256, file.size_bytes)
        path = Path(hf_hub_download(hub.repository, file.name, revision=hub.revision or None))
    if wrong := _wrong(path, file):
        real = path.resolve()
        path.unlink()
        real.unlink(missing_ok=True)
        raise WeightsError(
            f"{hub}: {file.name} is not what was published ({wrong}). It was removed; run the same command again"
        )
    if file.sha256:
        verify(path)
    return path


def _wrong(path: Path, file: Published) -> str:
    """How a file differs from what was published, "" if it does not."""
    size = path.stat().st_size
    if file.size_bytes and size != file.size_bytes:
        return f"{size} of {file.size_bytes} bytes"
    if file.sha256:
        found = sha256_of(path)
        return "" if found == file.sha256 else f"SHA-256 {found[:12]}... instead of {file.sha256[:12]}..."
    if file.git_sha1:
        data = path.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        return "" if found == file.git_sha1 else f"SHA-1 {found[:12]}... instead of {file.git_sha1[:12]}..."
    return ""


def _check_disk(needed_bytes: int) -> None:
    folder = cache_folder()
    free = free_bytes(folder)
    if needed_bytes > free:
        raise WeightsError(
            f"{folder} has {free / 1e9:.1f} GB free, {needed_bytes / 1e9:.1f} GB are needed. "
            "Make room, or set HF_HOME to another disk"
        )


def complete_blob(hub: HubLocation, name: str, sha256: str, size_bytes: int) -> None:
    """Makes the cache hold the blob of a file, under the name of its published hash; what it holds is not checked here.

    An interrupted download leaves a .part file, which the next one completes. Raises BusyError if another process
    downloads it, and whatever huggingface_hub raises for a connection that fails.
    """
    from filelock import FileLock, Timeout

    blob = cache_folder() / f"models--{hub.repository.replace('/', '--')}" / "blobs" / sha256
    if blob.exists():
        return
    blob.parent.mkdir(parents=True, exist_ok=True)
    part = blob.with_name(f"{sha256}.part")
    location, headers = file_location(hub.repository, name, hub.revision)
    try:
        with FileLock(blob.with_name(f"{sha256}.lock"), timeout=0), part.open("ab", buffering=0) as file:
            if part.stat().st_size > size_bytes:
                file.truncate(0)
            download(location, headers, file, size_bytes, Path(name).name)
    except Timeout as error:
        raise BusyError(f"{hub}: another process downloads {name}. Wait for it") from error
    part.replace(blob)


@contextmanager
def _explained(hub: HubLocation) -> Iterator[None]:
    """The ways in which a repository can't be had, in words, with what to do; never with a token."""
    from huggingface_hub import errors

    failure = ""
    site = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    try:
        yield
    except errors.GatedRepoError:
        failure = f"{hub} is gated: accept its licence at {site}/{hub.repository}, then log in with: hf auth login"
    except errors.RevisionNotFoundError:
        failure = f"{hub.repository} has no revision {hub.revision}"
    except errors.RepositoryNotFoundError:
        failure = f"{hub} is gone, or private (then log in with: hf auth login)"
    except errors.EntryNotFoundError as error:
        failure = f"{hub}: {_first_line(error)}"
    except errors.OfflineModeIsEnabled:
        failure = f"{hub} is not on this machine, and HF_HUB_OFFLINE forbids the network"
    except transport_errors() as error:
        failure = f"{hub}: {site} can't be reached ({type(error).__name__}). What is downloaded so far is kept: "
        failure += "run the same command again"
    except (errors.HfHubHTTPError, OSError) as error:
        failure = f"{hub}: {_first_line(error)}"
    if failure:
        raise UnavailableError(redacted(failure))


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
