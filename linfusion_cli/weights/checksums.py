"""Whether weights are what their publisher put on the hub: checksums, remembered until a file changes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from linfusion_cli.errors import WeightsError
from linfusion_cli.files import sha256_of, write_atomically
from linfusion_cli.json_files import read_json
from linfusion_cli.weights.safetensors_header import ENDING, read_header

SUMS = "SHA256SUMS"
SHA256 = re.compile(r"[0-9a-f]{64}")
LISTED = re.compile(r"([0-9a-fA-F]{64}) [ *]?(.+)")  # as sha256sum writes it, or another tool in capitals


def known_sha256(path: Path) -> str:
    """What a file must hash to; "" if nobody says.

    A file in the hub's cache is a link to a blob that is named by its hash. For any other file, a SHA256SUMS file (as
    sha256sum writes it) in its folder or in the one above may give it.
    """
    name = path.resolve().name
    if SHA256.fullmatch(name) and path.is_symlink():
        return name
    for folder in path.parents[:2]:
        if found := _listed(folder / SUMS).get(path.relative_to(folder).as_posix()):
            return found
    return ""


def _listed(sums: Path) -> dict[str, str]:
    """Name -> hash, of the lines that are whole."""
    try:
        lines = sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else []
    except (OSError, ValueError):
        return {}
    rows = filter(None, map(LISTED.fullmatch, lines))
    return {row[2].removeprefix("./"): row[1].lower() for row in rows}


def verify(path: Path, *, again: bool = False) -> None:
    """Checks a file against its known hash, once for as long as size and time of the file stay the same (`again`: now).

    Raises WeightsError if it is damaged. Files whose hash nobody knows pass.
    """
    wanted = known_sha256(path)
    if not wanted:
        return
    real = path.resolve()
    status = real.stat()
    mark: list[int | str] = [status.st_size, status.st_mtime_ns, wanted]
    if not again and _remembered().get(str(real)) == mark:
        return
    found = sha256_of(real)
    if found != wanted:
        what = f"{'/'.join(path.parts[-2:])}: damaged: its SHA-256 is {found[:12]}..., {wanted[:12]}... was published"
        remove = f"rm {shlex.quote(str(real))}"
        raise WeightsError(f"{what}. Remove it, then get it again (linfusion fetch, if it came from the hub): {remove}")
    _remember(str(real), mark)


def check_files(location: Path) -> None:
    """Reads the header of each safetensors file at a location, and all of the file where its hash is known.

    Raises WeightsError that names the first that is damaged.
    """
    for path in [location] if location.is_file() else sorted(location.rglob(f"*{ENDING}")):
        read_header(path)
        verify(path, again=True)


def _memory() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("linfusion") / "verified.json"


def _remembered() -> dict[str, list[int | str]]:
    try:
        return read_json(_memory())
    except (OSError, ValueError):
        return {}


def _remember(path: str, mark: list[int | str]) -> None:
    """Best effort: without it, the file is checked again next time."""
    try:
        write_atomically(_memory(), json.dumps({**_remembered(), path: mark}))
    except OSError:
        return
