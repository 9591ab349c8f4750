"""Converts pickles to safetensors: a child process reads each, this one watches it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linfusion_cli.errors import OutputError, UsageError, WeightsError, option
from linfusion_cli.files import free_bytes, replacing
from linfusion_cli.weights.model_family import kind_of
from linfusion_cli.weights.safetensors_header import ENDING, PICKLES, read_header

WALL_SECONDS, BYTES_PER_SECOND = 300, 2_000_000
KEPT_VARIABLES = (
    *("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV"),
    "SYSTEMROOT",  # without it Python does not start on Windows
)
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Converted:
    """A file that was written. kind: as kind_of() says; ignored: entries of the pickle that are no weights."""

    source: Path
    path: Path
    kind: str
    tensors: int
    ignored: tuple[str, ...]


def pickles_in(path: Path) -> list[Path]:
    """The file, or a folder's pickles without a safetensors file beside them. Raises UsageError for none."""
    if path.is_file():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICKLES and file.is_file())
    left = [
        file for file in found if not target_of(file).exists() and file.name not in ("optimizer.bin", "scheduler.bin")
    ]
    if not left:
        what = "its pickles are all converted already" if found else "there is no pickle in it" if path.is_dir() else ""
        raise UsageError(f"{path}: {what or 'there is no such file or folder'}")
    return left


def target_of(source: Path) -> Path:
    """Where the safetensors file goes: beside the pickle, under the name that diffusers and transformers look for."""
    stem = source.stem
    if stem == "pytorch_model" or stem.startswith(("pytorch_model.", "pytorch_model-")):
        stem = stem.removeprefix("pytorch_")
    return source.with_name(stem + ENDING)


def convert(source: Path, target: Path, progress: Progress, *, overwrite: bool = False) -> Converted:
    """Writes the weights of a pickle as a safetensors file, whole or not at all.

    `progress` gets the bytes done and their sum. Raises WeightsError that names what the file holds instead of weights,
    and OutputError if the target exists, or the disk is too small.
    """
    _check(source, target, overwrite=overwrite)
    with replacing(target) as part:
        told = _in_child(source, part, progress)
        header = read_header(part)
    return Converted(source, target, kind_of(header.tensors), len(header.tensors), tuple(map(str, told["ignored"])))


def _check(source: Path, target: Path, *, overwrite: bool) -> None:
    if not source.is_file():
        raise UsageError(f"{source}: there is no such file")
    if source.suffix.lower() == ENDING:
        raise UsageError(f"{source}: is a safetensors file already; linfusion reads it as it is")
    if target.suffix != ENDING:
        raise UsageError(f"{target}: a name that ends in {ENDING} is required. Nearest: {target.with_suffix(ENDING)}")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} already exists; use ", option("overwrite"), " or another ", option("output"))
    needed, free = source.stat().st_size, free_bytes(target.parent)
    if needed > free:
        raise OutputError(f"{target.parent} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed")


def _in_child(source: Path, part: Path, progress: Progress) -> dict[str, Any]:
    """What the child says at its end. Raises WeightsError with its reason, or if it was stopped."""
    command = [sys.executable, "-m", "linfusion_cli.convert.child", str(source.resolve()), str(part.resolve())]
    variables = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}  # no token of the user's
    variables |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    seconds = WALL_SECONDS + source.stat().st_size / BYTES_PER_SECOND
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=variables, text=True
    ) as child:
        timer = threading.Timer(seconds, child.kill)
        timer.start()
        try:
            for said in _lines(child):
                if "error" in said:
                    raise WeightsError(f"{source}: {said['error']}")
                if "ignored" in said:
                    return said
                progress(int(said["done_bytes"]), int(said["total_bytes"]))
        finally:
            timer.cancel()
            child.kill()
    raise WeightsError(f"{source}: reading it took more memory or time than weights of its size do; it was stopped")


def _lines(child: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert child.stdout is not None
    for line in child.stdout:
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict):
            yield said
