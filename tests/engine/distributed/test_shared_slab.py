"""Slabs over processes: the rows that a field is said to read are those that it does read."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from linfusion_cli.engine.distributed.process_group import Group
from linfusion_cli.engine.distributed.shared_slab import SharedSlab, common, needed
from linfusion_cli.engine.memory.slabs import MemorySlab
from linfusion_cli.engine.streaming.convolutions import Convolution, Convolved, Doubled, UpsampledConvolved
from linfusion_cli.engine.streaming.resize import Resized
from linfusion_cli.engine.streaming.row_source import (
    Added,
    Cropped,
    Extended,
    Field,
    Joined,
    LineBuffer,
    Mapped,
    Parked,
)
from linfusion_cli.engine.streaming.vae_attention import Attended
from linfusion_cli.geometry import Band, Size
from linfusion_cli.planning.row_split import RowSplit

CPU = torch.device("cpu")
HEIGHT, WIDTH, CHANNELS = 37, 5, 4


class Spy(SharedSlab):
    """A slab with all rows, which remembers the rows that are read."""

    def read(self, band: Band) -> Tensor:
        self.seen = common(Band(0, HEIGHT), band) if not hasattr(self, "seen") else hull(self.seen, band)
        return self.own.read(band)


def hull(one: Band, other: Band) -> Band:
    return Band(min(one.top, other.top), max(one.bottom, other.bottom))


def spied() -> tuple[Spy, Parked]:
    group = Group(0, (0,), CPU, None)
    values = MemorySlab(torch.randn(HEIGHT, WIDTH, CHANNELS))
    slab = Spy(values, RowSplit(1, 1), group, HEIGHT, (WIDTH, CHANNELS), torch.float32)
    return slab, Parked(slab, HEIGHT, WIDTH, CHANNELS, CPU)


class OneHead(nn.Module):
    """As much of a diffusers Attention as Attended reads."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(CHANNELS, CHANNELS) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(CHANNELS, CHANNELS), nn.Identity()])
        self.scale = 1.0


def conv(stride: int = 1, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(CHANNELS, CHANNELS, kernel, stride, kernel // 2)


FIELDS = {
    "mapped": lambda x: Mapped(x, torch.tanh),
    "added": lambda x: Added(Convolved.same(x, conv()), x),
    "joined": lambda x: Joined(x, Mapped(x, torch.tanh)),
    "line buffer": lambda x: LineBuffer(Convolved.same(x, conv())),
    "extended": lambda x: Extended(x, Size(WIDTH + 3, HEIGHT + 9)),
    "cropped": lambda x: Cropped(x, 3, HEIGHT - 7),
    "convolved": lambda x: Convolved.same(x, conv()),
    "convolved downwards": lambda x: Convolved(x, nn.Conv2d(CHANNELS, CHANNELS, 3, 2), (0, 1, 0, 1)),
    "convolution": lambda x: Convolution(x, conv(), 1),
    "strided": lambda x: Convolution(x, conv(2), 1),
    "pointwise": lambda x: Convolution(x, conv(1, 1), 1),
    "twice convolved": lambda x: Convolution(Convolution(x, conv(), 1), conv(), 1),
    "doubled": lambda x: Doubled(x, Size(2 * WIDTH, 2 * HEIGHT - 1)),
    "upsampled": lambda x: UpsampledConvolved.of(x, conv()),
    "enlarged": lambda x: Resized.to(x, Size(9, 101), "lanczos"),
    "shrunk": lambda x: Resized.to(x, Size(3, 11), "bicubic"),
    "attended": lambda x: Attended(x, OneHead(), 10 * WIDTH),
    "attended to all": lambda x: Attended(x, OneHead(), 10**6),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIELDS)
@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_a_field_reads_what_it_says(name: str, data: st.DataObject) -> None:
    slab, parked = spied()
    field: Field = FIELDS[name](parked)
    top = data.draw(st.integers(0, field.height - 1))
    band = Band(top, data.draw(st.integers(top + 1, field.height)))
    with torch.inference_mode():
        assert field.rows(band).shape == (1, field.channels, band.height, field.width)
    ((found, said),) = needed(field, band).values()
    assert found is slab
    assert said == slab.seen


def test_rows_that_are_not_here_are_refused() -> None:
    group = Group(1, (0, 1), CPU, None)
    slab = SharedSlab(MemorySlab(torch.ones(4, 2, 3)), RowSplit(2, 2), group, 8, (2, 3), torch.float32)
    assert slab.rows == Band(4, 8)
    assert slab.read(Band(5, 8)).shape == (3, 2, 3)
    with pytest.raises(RuntimeError, match="rows"):
        slab.read(Band(3, 5))
    slab.fetched.append((Band(3, 4), torch.zeros(1, 2, 3)))
    assert slab.read(Band(3, 5)).sum(dim=(1, 2)).tolist() == [0, 6]


def test_only_own_rows_are_written() -> None:
    group = Group(0, (0, 1), CPU, None)
    slab = SharedSlab(MemorySlab(torch.zeros(4, 1, 1)), RowSplit(2, 2), group, 8, (1, 1), torch.float32)
    slab.write(Band(2, 6), torch.arange(2.0, 6.0).view(4, 1, 1))
    slab.write(Band(6, 8), torch.ones(2, 1, 1))
    assert slab.own.read(Band(0, 4)).flatten().tolist() == [0, 0, 2, 3]
