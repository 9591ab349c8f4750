"""The latents of an unfinished image as bytes of a file, and back: with them an interrupted run resumes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import safetensors
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from linfusion_cli.engine.sampling.denoiser import Conditioning
from linfusion_cli.engine.sampling.schedulers import Scheduler
from linfusion_cli.events import Note, Notify
from linfusion_cli.json_files import parse_json

STEP = "step"
LATENTS = "latents"
NOT_STATE = frozenset({"_internal_dict"})  # a scheduler's configuration
# State from the first step on: of Heun and DPM-Solver, DPM2 ancestral, our Brownian path, LCM, UniPC.
LATER = frozenset({"sample", "dt", "first_draw", "sigma_data", "this_order"})


class Keeper(Protocol):
    """Stores checkpoints: find() returns what keep() got under a name, and b"" if there is nothing."""

    def find(self, name: str) -> bytes: ...

    def keep(self, name: str, data: bytes) -> None: ...

    def due(self, *, finished: bool) -> bool:
        """Whether enough new work is unsaved: called after each step, and at the end of a stage."""


class KeepNothing:
    """A keeper for images that are not resumed."""

    def find(self, name: str) -> bytes:
        return b""

    def keep(self, name: str, data: bytes) -> None:
        pass

    def due(self, *, finished: bool) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Resumed:
    """The middle of a stage: `done` steps are done; latents (1, channels, height, width) are their result."""

    done: int
    latents: Tensor


class Checkpoints:
    """The checkpoints of one image: the results of stages, the start of the running stage, and its last kept step.

    fingerprint: names what the pixels depend on beside the job (weights, number format, device). A checkpoint with
    another one, or a damaged one, is not used, and a note says so.
    """

    def __init__(
        self,
        keeper: Keeper,
        fingerprint: str,
        device: torch.device,
        notify: Notify,
        shapes: Mapping[int, tuple[int, ...]] | None = None,
    ) -> None:
        """shapes: of the latents of each stage, where they are known; kept ones of another shape are damaged."""
        self._keeper, self._fingerprint, self._device, self._notify = keeper, fingerprint, device, notify
        self._shapes = shapes or {}
        # not kept yet, but needed to resume from a later step: short images keep nothing
        self._pending: dict[str, Tensor] = {}

    def finished(self, stage: int) -> Tensor | None:
        """The latents that a stage ended with, if they were kept."""
        return self._find(_result(stage), stage)

    def finish(self, stage: int, latents: Tensor) -> None:
        """A stage has ended with these latents."""
        self._pending[_result(stage)] = latents
        if self._keeper.due(finished=True):
            self._flush()

    def started(self, stage: int) -> Tensor | None:
        """The latents that a later stage starts from, if they were kept."""
        return self._find(_start(stage), stage)

    def start(self, stage: int, latents: Tensor) -> None:
        """A later stage starts from these latents; of the earlier ones only those of stage 0 are still needed."""
        needed = {name: kept for name, kept in self._pending.items() if name == _result(0)}
        self._pending = {**needed, _start(stage): latents}

    def keeping(self, stage: int, scheduler: Scheduler, reach: Callable[[int], None]) -> Callable[[int, Tensor], None]:
        """The function to call after each step of a stage, with the number of steps done and their latents."""

        def on_step(done: int, latents: Tensor) -> None:
            if self._keeper.due(finished=False):
                self._flush()
                tensors, state = scheduler_state(scheduler.inner)
                about = {"fingerprint": self._fingerprint, "stage": stage, "done": done, "scheduler": state}
                self._keeper.keep(STEP, pack({LATENTS: latents, **tensors}, about))
            reach(done)

        return on_step

    def resume(self, stage: int, steps: int, scheduler: Scheduler) -> Resumed | None:
        """The step of a stage to resume from, with the scheduler set back to it; None to begin the stage."""
        found = self._open(STEP)
        if not found or found[1].get("stage") != stage:
            return None
        tensors, about = found
        try:
            self._require_latents(tensors.get(LATENTS), stage)
            _require_step(about.get("done"), steps)
            restore_scheduler(scheduler.inner, tensors, about.get("scheduler"), self._device)
        except ValueError as error:
            self._tell_damaged(STEP, error)
            return None
        latents = tensors.pop(LATENTS).to(self._device)
        self._notify(Note(text=f"continuing with stage {stage}, after step {about['done']} of {steps}"))
        return Resumed(about["done"], latents)

    def _require_latents(self, latents: Tensor | None, stage: int) -> Tensor:
        """The latents. Raises ValueError for anything else than float32 numbers in the shape of the stage."""
        if latents is None or latents.dtype != torch.float32 or latents.dim() != 4 or len(latents) != 1:
            raise ValueError("it holds no latents")
        shape = self._shapes.get(stage, tuple(latents.shape))
        if tuple(latents.shape) != shape:
            raise ValueError(f"its latents have the shape {tuple(latents.shape)}, not {shape}")
        if not torch.isfinite(latents).all():
            raise ValueError("it holds NaN or infinity")
        return latents

    def _tell_damaged(self, name: str, error: ValueError) -> None:
        self._notify(Note(text=f"the checkpoint {name} is damaged and not used: {error}"))

    def _flush(self) -> None:
        for name, latents in self._pending.items():
            self._keeper.keep(name, pack({LATENTS: latents}, {"fingerprint": self._fingerprint}))
        self._pending.clear()

    def _find(self, name: str, stage: int) -> Tensor | None:
        found = self._open(name)
        if not found:
            return None
        latents = found[0].get(LATENTS)
        try:
            return self._require_latents(latents, stage).to(self._device)
        except ValueError as error:
            self._tell_damaged(name, error)
            return None

    def _open(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What was kept under a name; None, with a note, if it is damaged or of other weights."""
        data = self._keeper.find(name)
        if not data:
            return None
        try:
            tensors, about = unpack(data)
        except ValueError as error:
            self._tell_damaged(name, error)
            return None
        if about.get("fingerprint") != self._fingerprint:
            text = f"the checkpoint {name} is of other weights, another device or another version and is not used"
            self._notify(Note(text=text))
            return None
        return tensors, about


def _require_step(done: object, steps: int) -> None:
    """Raises ValueError for anything else than a number of steps from 1 to `steps`."""
    if not isinstance(done, int) or isinstance(done, bool) or not 0 < done <= steps:
        raise ValueError(f"it says that step {done!r:.20} of {steps} is done")


def _result(stage: int) -> str:
    return f"stage-{stage}"


def _start(stage: int) -> str:
    return f"start-{stage}"


def pack(tensors: dict[str, Tensor], about: dict[str, Any]) -> bytes:
    """Tensors and a JSON value as one safetensors file, with a SHA-256 over both, which the format lacks."""
    # copies, because safetensors refuses tensors that share memory, as schedulers have
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    text = json.dumps(about, sort_keys=True)
    return save_tensors(tensors, {"about": text, "sha256": _digest(tensors, text)})


def unpack(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The arguments of pack(), on the CPU. Raises ValueError for data that pack() did not return."""
    try:
        tensors = load_tensors(data)
        header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")], "its header")["__metadata__"]
        about = parse_json(header["about"], "its header")
        if header["sha256"] != _digest(tensors, header["about"]):
            raise ValueError("its checksum is wrong")
    except (safetensors.SafetensorError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("the checkpoint is incomplete") from error
    return tensors, about


def scheduler_state(scheduler: Any) -> tuple[dict[str, Tensor], Any]:
    """The memory of a diffusers scheduler between two steps: its tensors, and the rest as JSON that names them.

    Raises TypeError for a value that can't be stored.
    """
    tensors: dict[str, Tensor] = {}

    def plain(value: Any, name: str) -> Any:
        if isinstance(value, Tensor | np.ndarray):
            tensors[name] = torch.as_tensor(value)
            return {"array" if isinstance(value, np.ndarray) else str(value.device.type): name}
        if isinstance(value, list | tuple):
            return [plain(item, f"{name}.{i}") for i, item in enumerate(value)]
        if isinstance(value, np.generic):
            return value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"{type(scheduler).__name__}.{name} is a {type(value).__name__}, which no checkpoint can hold")

    return tensors, {name: plain(value, name) for name, value in vars(scheduler).items() if name not in NOT_STATE}


def restore_scheduler(scheduler: Any, tensors: dict[str, Tensor], state: object, device: torch.device) -> None:
    """Sets a new scheduler of the same class back to a state that scheduler_state() returned.

    Raises ValueError, and sets nothing, for a state that a scheduler of this class does not have: only attributes that
    it has itself, or gets in its steps, are set, to values of a type that they may have.
    """

    def live(value: Any) -> Any:
        if isinstance(value, dict):
            ((kind, name),) = value.items()
            return tensors[name].numpy() if kind == "array" else tensors[name].to("cpu" if kind == "cpu" else device)
        return [live(item) for item in value] if isinstance(value, list) else value

    own = vars(scheduler)
    if not isinstance(state, dict) or not own.keys() - NOT_STATE <= state.keys() <= own.keys() - NOT_STATE | LATER:
        raise ValueError("its state is not that of this scheduler")
    try:
        values = {name: live(value) for name, value in state.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("its scheduler state is incomplete") from error
    for name, value in values.items():
        before = own.get(name)
        if isinstance(before, Tensor | np.ndarray) and (type(value) is not type(before) or value.shape != before.shape):
            raise ValueError(f"its scheduler state has a different {name}")
    for name, value in values.items():
        setattr(scheduler, name, value)


def fingerprint(
    modules: Iterable[torch.nn.Module], updates: Iterable[Tensor], conditioning: Conditioning, *about: str
) -> str:
    """A digest of the weights, of what comes on top of them later, of the encoded prompt and of `about`.

    Every bit counts.
    """
    digest = hashlib.sha256("\n".join((torch.__version__, *about)).encode())
    for module in modules:
        for name, tensor in module.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} {_sum(tensor)}\n".encode())
    for tensor in updates:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)} {_sum(tensor)}\n".encode())
    for half in conditioning.halves:
        for tensor in half:
            digest.update(_bytes(tensor.cpu()))
    return digest.hexdigest()


def _sum(tensor: Tensor) -> int:
    """The sum of a tensor's bits as 64-bit integers, modulo 2^64: any flipped bit changes it."""
    if tensor.device.type == "meta" or not tensor.numel():
        return 0
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    whole = len(flat) // 8 * 8
    return int(flat[:whole].view(torch.int64).sum()) + int(flat[whole:].to(torch.int64).sum())


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data
