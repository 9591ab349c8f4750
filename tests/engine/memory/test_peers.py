"""One process alone has all rows and changes nothing."""

import torch
from torch import Tensor

from linfusion_cli.engine.memory.peers import ALONE, Peers
from linfusion_cli.engine.streaming.row_source import Parked
from linfusion_cli.geometry import Band


def test_alone() -> None:
    peers: Peers = ALONE
    image = torch.randn(1, 2, 7, 3)
    assert peers.own(7) == peers.start_sweep(Parked.of(image)) == Band(0, 7)
    mean, variance = image.mean((0, 2, 3)), image.var((0, 2, 3))
    given: tuple[Tensor, ...] = (mean, variance)
    assert all(a is b for a, b in zip(peers.merged(mean, variance, 7), given, strict=True))
    assert all(a is b for a, b in zip(peers.summed(mean, variance), given, strict=True))
    assert peers.gathered(image, 7) is image
