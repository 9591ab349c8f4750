"""A training of a second: a small network that learns a sum."""

from pathlib import Path

import torch
from torch import Tensor, nn

from linfusion_cli.training.muon import muon_for
from linfusion_cli.training.schedule import Schedule
from linfusion_cli.training.trainer import LossOf, Run, Settings


def model_and_run(folder: Path, steps: int = 60, **settings: object) -> tuple[nn.Module, Run]:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1)
    )  # dropout draws from the global generator
    given = Settings(**{"identity": {"rate": 0.01}, "seed": 3, **settings})  # type: ignore[arg-type]
    return model, Run(folder, model, muon_for(model, outer=("3.",)), Schedule(steps, 0.01, warmup=2), given)


def loss_for(model: nn.Module, stop_at: int = -1) -> LossOf:
    def loss_of(index: int) -> tuple[Tensor, dict[str, Tensor]]:
        if index == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(index))
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        return loss, {"loss": loss.detach()}

    return loss_of
