"""The training loop: a run that resumes where it was stopped, on a CPU, a GPU or several (through accelerate)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from linfusion_cli.errors import LinfusionError
from linfusion_cli.training import checkpoint as checkpoints
from linfusion_cli.training.checkpoint import Checkpoint, Identity
from linfusion_cli.training.ema import MovingAverage
from linfusion_cli.training.schedule import Schedule

# Index of a batch -> its loss, a scalar, and the terms to show. A batch depends on its index alone, so that a run that
# resumes sees the same batches.
LossOf = Callable[[int], tuple[Tensor, dict[str, Tensor]]]
TELL_EVERY_SECONDS = 5.0
SMALLEST_SCALE = 1e-3  # a float16 loss scale below this means that every step overflows
MODEL, AVERAGE = "model.", "average."


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    step, steps:  steps done, and of the whole run
    seconds:      time trained, over all parts of the run
    seconds_left: an estimate
    terms:        the terms of the loss, each an exponential moving average
    """

    kind: ClassVar[str] = "training"
    step: int
    steps: int
    seconds: float
    seconds_left: float
    terms: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """The progress for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        terms = "  ".join(f"{name} {value:.4g}" for name, value in self.terms.items())
        left = f"{self.seconds_left / 60:.1f} min left"
        return f"step {self.step} of {self.steps}  {left}  {self.seconds / max(self.step, 1):.2f} s/step  {terms}"


@dataclass(frozen=True, slots=True)
class WeightsWritten:
    """The weights of a finished training are at `path`, a file or a folder."""

    kind: ClassVar[str] = "weights"
    path: str

    def as_dict(self) -> dict[str, Any]:
        """The path for JSON."""
        return {"path": self.path}

    def __str__(self) -> str:
        return f"weights in {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a run trains, apart from its schedule.

    identity:         what a checkpoint must share with this run for the run to continue from it
    decay:            of the moving average of the weights, 0 to below 1; 0 = the weights themselves
    accumulate:       batches per step and process, whose gradients are averaged
    largest_gradient: the gradient's norm is clipped to this
    save_every_seconds, save_every_steps: a checkpoint is written at whichever comes first
    """

    identity: Identity = field(default_factory=dict)
    seed: int = 0
    decay: float = 0.995
    accumulate: int = 1
    largest_gradient: float = 1.0
    save_every_seconds: float = 300.0
    save_every_steps: int = 1_000_000_000


class Run:
    """One training run in a folder of its own. Its constructor restores the newest checkpoint in the folder.

    On a CPU, a run that was stopped and continued ends with exactly the weights of one that was not.

    accelerator: None = one process on the CPU
    Raises UsageError for a folder of another run, WeightsError for a damaged checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        settings: Settings,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.folder, self.schedule, self.settings = folder, schedule, settings
        self.accelerator = accelerator or Accelerator(cpu=True)
        self.model = model.to(self.accelerator.device)
        self.optimizer: Any = self.accelerator.prepare(optimizer)
        self.average = MovingAverage(self.model, settings.decay)
        self.step = 0
        self.seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        if found := checkpoints.newest(folder):
            state = checkpoints.load(found, settings.identity)
            try:
                self._restore(state)
            except checkpoints.DAMAGE as error:
                raise checkpoints.damaged(found, error) from error

    @property
    def progress(self) -> float:
        """The part of the run that is done, by steps or by time, whichever is larger; 1 or more = finished."""
        return max(self.step / self.schedule.steps, self.seconds / 60 / self.schedule.minutes)

    def train(self, loss_of: LossOf) -> Iterator[Progress]:
        """Trains to the end; yields the progress about every 5 seconds, and at the end.

        Raises LinfusionError if the loss or the gradient is not finite (that step changes no weight), and OutputError
        if a checkpoint can't be written.
        """
        began, saved, saved_step, told = self.seconds, self.seconds, self.step, self.seconds
        started = time.monotonic()
        smooth: dict[str, Tensor] = {}
        while self.progress < 1:
            terms = self._train_step(loss_of)
            smooth = {
                **smooth,
                **{name: torch.lerp(smooth.get(name, value), value, 0.05) for name, value in terms.items()},
            }
            self.step += 1
            self.seconds = self._agreed(began + time.monotonic() - started)
            if self.seconds - told > TELL_EVERY_SECONDS:
                told = self.seconds
                yield self._progress(smooth)
            if (
                self.seconds - saved >= self.settings.save_every_seconds
                or self.step - saved_step >= self.settings.save_every_steps
            ):
                saved, saved_step = self.seconds, self.step
                self._save()
        self._save()
        self.accelerator.wait_for_everyone()
        yield self._progress(smooth)

    def _train_step(self, loss_of: LossOf) -> dict[str, Tensor]:
        ranks, rank, parts = self.accelerator.num_processes, self.accelerator.process_index, self.settings.accumulate
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.progress, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        terms: dict[str, Tensor] = {}
        for part in range(parts):
            index = (self.step * parts + part) * ranks + rank
            torch.manual_seed(self.settings.seed * 1_000_003 + index)  # dropout and the like draw from it
            with self.accelerator.autocast():
                loss, terms = loss_of(index)
            self._require_finite(loss.detach(), "loss")
            self.accelerator.backward(loss / parts)
        self._update()
        return {name: value.detach().float() for name, value in terms.items()}

    def _update(self) -> None:
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        if self.accelerator.num_processes > 1:
            for parameter in parameters:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self.accelerator.reduce(gradient, "mean")
        self.accelerator.unscale_gradients()
        norm = nn.utils.clip_grad_norm_(parameters, self.settings.largest_gradient)
        scaler = self.accelerator.scaler
        if scaler is None:
            self._require_finite(norm, "gradient")
        elif scaler.get_scale() < SMALLEST_SCALE:
            raise LinfusionError(self._stopped("every gradient overflows float16. Try bf16"))
        self.optimizer.step()  # in float16 the scaler skips a step that overflows
        self.average.update(self.model, self.step)

    def _require_finite(self, value: Tensor, name: str) -> None:
        shared = self.accelerator.reduce(value, "mean") if self.accelerator.num_processes > 1 else value
        if not torch.isfinite(shared):
            raise LinfusionError(
                self._stopped(f"the {name} is {float(shared)}. Try a lower rate, or bf16 or float32 numbers")
            )

    def _stopped(self, reason: str) -> str:
        kept = checkpoints.newest(self.folder)
        return f"stopped at step {self.step}: {reason}. " + (
            f"The last good checkpoint is {kept}" if kept else "There is no checkpoint yet"
        )

    def _agreed(self, seconds: float) -> float:
        """The mean time of all processes, so that all of them stop and save at the same step."""
        if self.accelerator.num_processes == 1:
            return seconds
        return float(self.accelerator.reduce(torch.tensor(seconds, device=self.accelerator.device), "mean"))

    def _progress(self, terms: dict[str, Tensor]) -> Progress:
        left = self.seconds * (1 / max(self.progress, 1e-9) - 1)
        values = {name: float(value) for name, value in terms.items()}
        if self.accelerator.trackers:
            self.accelerator.log(values | {"rate": float(self.optimizer.param_groups[0]["lr"])}, step=self.step)
        return Progress(self.step, self.schedule.steps, self.seconds, max(left, 0.0), values)

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        tensors = {MODEL + name: value.detach() for name, value in self.model.state_dict().items()}
        tensors |= {AVERAGE + name: value for name, value in self.average.weights.items()}
        scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler else {}
        state = Checkpoint(
            self.step, self.seconds, tensors, self.optimizer.state_dict(), scaler, self.settings.identity
        )
        checkpoints.save(self.folder, state)

    def _restore(self, state: Checkpoint) -> None:
        device = self.accelerator.device
        self.model.load_state_dict(_under(MODEL, state.tensors))
        self.average.weights = {name: value.to(device) for name, value in _under(AVERAGE, state.tensors).items()}
        self.optimizer.load_state_dict(state.optimizer)
        if self.accelerator.scaler and state.scaler:
            self.accelerator.scaler.load_state_dict(state.scaler)
        self.step, self.seconds = state.step, state.seconds


def averaged(folder: Path) -> dict[str, Tensor]:
    """The moving average of the weights in the newest checkpoint of a run's folder, by name, on the CPU.

    Raises UsageError if there is no checkpoint, WeightsError if it is damaged.
    """
    return _under(AVERAGE, checkpoints.load_tensors(folder))


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
