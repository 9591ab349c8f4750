"""What every part of the recipe shares: rate schedule, moving average, checkpoints, a line of progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to train. With `minutes` the run may end before its steps, its rate fully decayed all the same."""

    steps: int
    learning_rate: float
    minutes: float = math.inf
    warmup: int = 100

    def rate(self, progress: float, step: int) -> float:
        """Warm-up, then a cosine to zero over progress in [0, 1]."""
        return self.learning_rate * min(1.0, (step + 1) / self.warmup) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


class MovingAverage:
    """Exponential moving average of a model's weights, in float32."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (step + 1) / (step + 10))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)


class Run:
    """One training run that goes on where it was stopped.

    Its folder holds `state.safetensors` (weights, average) and `optimizer.pt`; both are written whole or not at all.
    """

    def __init__(self, folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Schedule, decay: float = 0.995) -> None:
        self.folder, self.model, self.optimizer, self.schedule = folder, model, optimizer, schedule
        self.average = MovingAverage(model, decay)
        self.step = 0
        self.seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "state.safetensors").exists():
            self._load()

    def progress(self) -> float:
        """Part of the run that is done, by steps or by time, whichever is further."""
        return max(self.step / self.schedule.steps, self.seconds / 60 / self.schedule.minutes)

    def train(self, loss_of: Callable[[int], tuple[Tensor, dict[str, float]]], save_every: float = 120.0) -> Iterator[str]:
        """Runs to the end; yields a line of progress now and then. `loss_of(step)` gives the loss and its terms."""
        started, saved, told = time.monotonic() - self.seconds, time.monotonic(), time.monotonic()
        smooth: dict[str, float] = {}
        while self.progress() < 1:
            for group in self.optimizer.param_groups:
                group["lr"] = self.schedule.rate(self.progress(), self.step)
            loss, terms = loss_of(self.step)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"loss is {loss.item()} at step {self.step}; the last good checkpoint is in {self.folder}")
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.average.update(self.model, self.step)
            self.step += 1
            self.seconds = time.monotonic() - started
            smooth = {name: 0.98 * smooth.get(name, value) + 0.02 * value for name, value in terms.items()}
            if time.monotonic() - told > 10:
                told = time.monotonic()
                yield f"step {self.step}  {100 * self.progress():.0f} %  {self.seconds / self.step:.2f} s/step  " + "  ".join(
                    f"{k} {v:.4f}" for k, v in smooth.items()
                )
            if time.monotonic() - saved > save_every:
                saved = time.monotonic()
                self._save()
        self._save()

    def _save(self) -> None:
        weights = {f"model.{k}": v.detach().contiguous() for k, v in self.model.state_dict().items()}
        weights |= {f"average.{k}": v.contiguous() for k, v in self.average.weights.items()}
        save_file(weights, self.folder / "state.part", {"step": str(self.step), "seconds": str(self.seconds)})
        torch.save(self.optimizer.state_dict(), self.folder / "optimizer.part")
        (self.folder / "state.part").replace(self.folder / "state.safetensors")
        (self.folder / "optimizer.part").replace(self.folder / "optimizer.pt")

    def _load(self) -> None:
        from safetensors import safe_open

        weights = load_file(self.folder / "state.safetensors")
        self.model.load_state_dict({k[6:]: v for k, v in weights.items() if k.startswith("model.")})
        self.average.weights = {k[8:]: v for k, v in weights.items() if k.startswith("average.")}
        self.optimizer.load_state_dict(torch.load(self.folder / "optimizer.pt", weights_only=True))
        with safe_open(self.folder / "state.safetensors", "pt") as file:
            metadata = file.metadata()
        self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])
