"""The next band's rows are fetched while a band is computed; what is read is what was written, whatever the order."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from late import Early, Late, Slow

from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.async_copies import Streams
from linfusion_cli.engine.memory.prefetcher import CopiedSlab, next_request
from linfusion_cli.engine.streaming import convolutions
from linfusion_cli.engine.streaming.row_source import Mapped, Parked, park, sweep
from linfusion_cli.geometry import Band
from linfusion_cli.planning.memory_budget import StoreBudget

CPU = torch.device("cpu")
BUDGETS = {"memory": (0, 1e9), "files": (0, 0)}


def store(folder: Path, budget: str, streams: Streams | None = None) -> ActivationStore:
    return ActivationStore(CPU, StoreBudget(*BUDGETS[budget], folder, overlapped=True), streams=streams or Late())


@pytest.mark.parametrize("budget", ["memory", "files"])
def test_all_bands_but_the_first_are_foreseen(budget: str, tmp_path: Path) -> None:
    copied = store(tmp_path, budget)
    assert copied.prefetcher is not None
    x = park(Parked.of(torch.randn(1, 3, 23, 5)), 4, copied, None, lambda _: None).field
    conv = torch.nn.Conv2d(3, 3, 3, padding=1)
    with torch.inference_mode():
        list(sweep(convolutions.Convolution(x, conv, 1), 4, copied))
        assert copied.prefetcher.hits == 5
        list(sweep(convolutions.Convolution(x, torch.nn.Conv2d(3, 3, 3, 2, 1), 1), 3, copied))
        assert copied.prefetcher.hits == 5 + 3
        list(sweep(Mapped(x, lambda rows: rows), 23, copied))
    assert copied.prefetcher.hits == 5 + 3, "a single band has nothing before it"


def test_the_host_is_a_band_ahead_at_most(tmp_path: Path) -> None:
    """Else a device that frees rows when it has read them would need room for all of them."""
    streams = Slow()
    copied = store(tmp_path, "memory", streams)
    x = park(Parked.of(torch.randn(1, 3, 23, 5)), 4, copied, None, lambda _: None).field
    for number, _ in enumerate(sweep(x, 4, copied)):
        assert streams.waited == list(range(1, min(number, 4) + 1))


@pytest.mark.parametrize(
    ("asked", "band", "following", "scale", "expected"),
    [
        (Band(0, 5), Band(0, 4), Band(4, 8), 1.0, Band(3, 9)),  # a halo that the edge cut off
        (Band(3, 9), Band(4, 8), Band(8, 11), 1.0, Band(7, 12)),  # the last band is lower
        (Band(0, 9), Band(0, 4), Band(4, 8), 2.0, Band(7, 17)),
        (Band(0, 3), Band(0, 4), Band(4, 8), 0.5, Band(1, 5)),
        (Band(3, 20), Band(4, 8), Band(8, 11), 1.0, Band(7, 20)),  # no more rows than there are
    ],
)
def test_the_next_request(asked: Band, band: Band, following: Band, scale: float, expected: Band) -> None:
    assert next_request(asked, band, following, scale, 20) == expected


@pytest.mark.slow
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["write", "read", "ahead", "start"]),
            st.integers(0, 1),
            st.integers(0, 8),
            st.integers(1, 5),
        ),
        max_size=40,
    ),
    late=st.booleans(),
    budget=st.sampled_from(["memory", "files"]),
)
@settings(deadline=None, max_examples=150)
def test_any_order_of_reads_and_writes(steps: list[tuple[str, int, int, int]], late: bool, budget: str) -> None:
    """Against plain tensors; whatever is fetched ahead, and written in between."""
    copied = store(Path("/tmp"), budget, Late() if late else Early())
    assert copied.prefetcher is not None
    slabs, plain = [copied.slab((9, 2, 1), torch.float32) for _ in range(2)], [torch.zeros(9, 2, 1) for _ in range(2)]
    assert all(isinstance(slab, CopiedSlab) for slab in slabs)
    for slab, values in zip(slabs, plain, strict=True):
        slab.write(Band(0, 9), values.clone())
    for number, (what, which, top, height) in enumerate(steps):
        band = Band(top, min(9, top + height))
        if what == "write":
            rows = torch.full((band.height, 2, 1), float(number))
            slabs[which].write(band, rows)
            plain[which][band.rows] = rows
        elif what == "read":
            assert torch.equal(slabs[which].read(band), plain[which][band.rows])
        elif what == "ahead":
            copied.finish_band(band, height, 9)
        else:
            copied.start_sweep()
    for slab, values in zip(slabs, plain, strict=True):
        assert torch.equal(slab.read(Band(0, 9)), values)
