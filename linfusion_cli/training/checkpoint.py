"""Checkpoints of a training run: folders that appear whole under their final names. The newest one counts."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from linfusion_cli.errors import OutputError, UsageError, WeightsError
from linfusion_cli.files import TEMPORARY_SUFFIX, replacing
from linfusion_cli.json_files import read_json

PREFIX = "checkpoint-"
TENSORS, OPTIMIZER, RUN = "tensors.safetensors", "optimizer.pt", "run.json"
MOST_STEPS = 10**12
# What is raised when a checkpoint is read, or its state restored, and it is not what save() wrote.
DAMAGE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, EOFError),
    *(AssertionError, pickle.UnpicklingError, SafetensorError),
)
Identity = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a run between two steps.

    step:      steps done
    seconds:   time trained, over all parts of the run
    tensors:   weights and their moving average, by name
    optimizer: the optimiser's state_dict
    scaler:    the state_dict of the loss scaler; empty unless the run is in float16
    identity:  what must be equal for a run to continue from here (data, rates, seed, ...)
    """

    step: int
    seconds: float
    tensors: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    identity: Identity


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint in a run's folder, None if there is none."""
    found = sorted(path for path in folder.glob(f"{PREFIX}*") if path.suffix != TEMPORARY_SUFFIX)
    return found[-1] if found else None


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint, then removes the older ones, and returns its folder; does nothing if it is there already.

    Raises OutputError if it can't be written (a full disk, for example); the one before stays.
    """
    before, final = newest(folder), folder / f"{PREFIX}{checkpoint.step:08d}"
    if before == final:
        return final
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(final) as part:
            part.mkdir()
            _write(part, checkpoint)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch reports a failed write as RuntimeError
        kept = f"{before.name} stays" if before else "there was none before"
        raise OutputError(
            f"{final}: the checkpoint can't be written ({error}); {kept}. Make room and give the same command again"
        ) from error
    for old in folder.glob(f"{PREFIX}*"):
        if old != final:
            shutil.rmtree(old, ignore_errors=True)
    return final


def load(path: Path, identity: Identity) -> Checkpoint:
    """Reads a checkpoint, its tensors on the CPU.

    Raises WeightsError if it is damaged, and UsageError if its identity is another: the message names what differs.
    """
    try:
        run = read_json(path / RUN)
        _check_identity(path, run["identity"], identity)
        if type(run["step"]) is not int or not 0 <= run["step"] <= MOST_STEPS or not isinstance(run["scaler"], dict):
            raise ValueError(f"step {run['step']!r}")
        tensors = load_file(path / TENSORS)
        optimizer = torch.load(path / OPTIMIZER, weights_only=True, map_location="cpu")
        return Checkpoint(run["step"], float(run["seconds"]), tensors, optimizer, run["scaler"], run["identity"])
    except DAMAGE as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: BaseException) -> WeightsError:
    """The error for a checkpoint that can't be read or does not fit its model."""
    advice = "Remove this folder to start from what was before it"
    return WeightsError(f"{path}: the checkpoint is damaged ({type(error).__name__}). {advice}")


def load_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of the newest checkpoint in a run's folder, by name, on the CPU.

    Raises UsageError if there is none, WeightsError if it is damaged.
    """
    found = newest(folder)
    if found is None:
        raise UsageError(f"{folder}: there is no checkpoint. Train first")
    try:
        return load_file(found / TENSORS)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{found}: the checkpoint is damaged ({error})") from error


def _check_identity(path: Path, stored: Identity, identity: Identity) -> None:
    if not isinstance(stored, dict):
        raise TypeError("the identity of its run is not a JSON object")
    for name in [*identity, *stored]:
        if stored.get(name) != identity.get(name):
            differing = f"{name} is {stored.get(name)!r} there and {identity.get(name)!r} here"
            raise UsageError(
                f"{path.parent} holds another run: {differing}. Name another folder, or remove it to start anew"
            )


def _write(part: Path, checkpoint: Checkpoint) -> None:
    save_file({name: value.contiguous() for name, value in checkpoint.tensors.items()}, part / TENSORS)
    torch.save(checkpoint.optimizer, part / OPTIMIZER)
    run = {
        "step": checkpoint.step,
        "seconds": checkpoint.seconds,
        "scaler": checkpoint.scaler,
        "identity": dict(checkpoint.identity),
    }
    (part / RUN).write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
