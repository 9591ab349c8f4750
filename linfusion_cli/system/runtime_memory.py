"""What this process holds once torch and diffusers are imported: hundreds of megabytes apart between builds of torch.

The default build of PyPI takes 763 MB on a machine without a GPU, the one for CPUs 388 to 471 MB (docs/log.md). Beside
that they map files and stacks that take address space and no RAM.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from pathlib import Path
from typing import Any

import platformdirs
import psutil

from linfusion_cli.files import write_atomically
from linfusion_cli.json_files import read_json

LIMIT_BYTES = 1 << 20  # of the file
LEAST_BYTES, MOST_BYTES = 50 << 20, 20 << 30  # of the imports of any build; everything else is damage
NEARLY = 0.02  # a stored value so near is not written again
MAPPED_BYTES = 460 << 20  # of the build for CPUs, 2026-11-28
MAPPED = "mapped by "  # before an installation, in the file
_MEASURED: dict[str, int] = {}  # of this process, once


def imported_bytes() -> int:
    """Resident bytes after the imports: of this process, else as stored for this installation of torch, else 0."""
    return _MEASURED.get("bytes") or _stored().get(_installation(), 0)


def mapped_bytes() -> int:
    """Address space that the imports take beyond their RAM: of this process, else as stored, else as assumed."""
    return _MEASURED.get("mapped") or _stored().get(MAPPED + _installation(), MAPPED_BYTES)


def measure_imported() -> None:
    """Takes the memory of this process as that of the imports, and stores it for later plans.

    To be called right after the first import of torch, before anything is loaded.
    """
    held, name = resident_bytes(), _installation()
    _MEASURED.update(bytes=held, mapped=max(0, address_space_bytes() - held))
    stored, found = _stored(), {name: held, MAPPED + name: _MEASURED["mapped"]}
    if all(abs(size - stored.get(key, 0)) <= NEARLY * size for key, size in found.items()):
        return
    try:
        write_atomically(_file(), json.dumps({**stored, **found}, indent=2))
    except OSError:
        return  # a cache that can't be written is ignored


def resident_bytes() -> int:
    """What this process holds in RAM now."""
    return int(psutil.Process().memory_info().rss)


def address_space_bytes() -> int:
    """What this process has mapped, with RAM behind it or not."""
    return int(psutil.Process().memory_info().vms)


def _stored() -> dict[str, int]:
    """Bytes by installation; what no installation has, or what is no number, is left out."""
    try:
        found: dict[str, Any] = read_json(_file(), LIMIT_BYTES)
    except (OSError, ValueError):
        return {}
    return {name: held for name, held in found.items() if type(held) is int and LEAST_BYTES <= held <= MOST_BYTES}


def _installation() -> str:
    """Names the torch that would be imported, without importing it."""
    try:
        found = importlib.util.find_spec("torch")
        version = importlib.metadata.version("torch")
    except (ImportError, ValueError):
        return "none"
    return f"{version} {found.origin if found else ''}"


def _file() -> Path:
    return platformdirs.user_cache_path("linfusion") / "imported.json"
