"""Copies beside the compute: the same pixels whenever the copies happen, in buffers that the plan counts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from hypothesis import given, settings
from hypothesis import strategies as st
from late import Early, Late, NeverFinished, NeverJoined, Short, Slow
from tiny import KEEPS, limited, mounted, tiny_vae
from torch import Tensor

from linfusion_cli.engine.controlnet.banded import BandedControlNet
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.async_copies import Streams
from linfusion_cli.engine.memory.prefetcher import CopiedSlab, Prefetcher, next_request
from linfusion_cli.engine.memory.slabs import FileSlab
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.streaming import convolutions
from linfusion_cli.engine.streaming.banded_unet import BandedUNet, PlainUNet
from linfusion_cli.engine.streaming.banded_vae import Sweeper
from linfusion_cli.engine.streaming.row_source import Mapped, Parked, park, sweep
from linfusion_cli.geometry import Band
from linfusion_cli.planning.memory_budget import Keep, StoreBudget, per_tier

CPU = torch.device("cpu")
WEIGHTS = Weights(CPU, resident=True)
BUDGETS = {"memory": (0, 1e9), "files": (0, 0), "some of each": (20_000, 30_000)}


@pytest.fixture(autouse=True)
def unwritten_is_not_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    landing = FileSlab.landing
    monkeypatch.setattr(FileSlab, "landing", lambda self, band: landing(self, band).fill_(torch.nan))


def store(folder: Path, budget: str, streams: Streams | None = None) -> ActivationStore:
    return ActivationStore(CPU, StoreBudget(*BUDGETS[budget], folder, overlapped=True), streams=streams or Late())


def prediction(store: ActivationStore, band_rows: int = 4, dilation: int = 1) -> Tensor:
    """Of a tiny UNet, for two samples."""
    unet, tensors = mounted("sd15")
    torch.manual_seed(band_rows)
    sample = torch.randn(2, 4, 21, 9, dtype=torch.float64)
    with torch.inference_mode():
        text = tensors["encoder_hidden_states"][:2].double()
        return BandedUNet(unet, band_rows, store, WEIGHTS)(sample, torch.tensor(321), text, None, dilation)


@pytest.mark.slow
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("streams", [Late, Early])
@pytest.mark.parametrize(("band_rows", "dilation"), [(1, 1), (4, 1), (5, 3), (7, 16), (100, 1)])
def test_the_unet_is_the_same(budget: str, streams: type[Late], band_rows: int, dilation: int, tmp_path: Path) -> None:
    copied = store(tmp_path, budget, streams())
    assert copied.prefetcher is not None
    assert torch.equal(
        prediction(copied, band_rows, dilation), prediction(ActivationStore.unlimited(CPU), band_rows, dilation)
    )
    assert copied.prefetcher.hits > 0 or band_rows >= 21
    assert copied.usage.held_bytes == per_tier()


@pytest.mark.parametrize(
    ("budget", "streams"), [("memory", NeverJoined), ("files", NeverJoined), ("files", NeverFinished)]
)
def test_a_wait_that_is_missing_is_seen(budget: str, streams: type[Late], tmp_path: Path) -> None:
    assert not torch.equal(prediction(store(tmp_path, budget, streams())), prediction(ActivationStore.unlimited(CPU)))


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("keep", KEEPS)
@torch.inference_mode()
def test_the_autoencoder_is_the_same(keep: tuple[Keep, ...], budget: str, tmp_path: Path) -> None:
    vae, latents = tiny_vae(attention=True), torch.randn(1, 4, 19, 6)

    def both_ways(store: ActivationStore) -> tuple[Tensor, Tensor]:
        sweeper = Sweeper(vae, 11, keep, 10**6, store, lambda _: None)
        image = Parked(store.slab((76, 24, 3), torch.float32), 76, 24, 3, CPU)
        for band, rows in sweeper.decode(latents):
            image.write(band, rows)
        return image.rows(Band(0, 76)), sweeper.encode(image)

    copied = store(tmp_path, budget)
    for ours, plain in zip(both_ways(copied), both_ways(ActivationStore.unlimited(CPU)), strict=True):
        assert torch.equal(ours, plain)


@pytest.mark.parametrize("budget", BUDGETS)
def test_lower_bands_after_a_shortage(budget: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = prediction(ActivationStore.unlimited(CPU), 8, 3)
    monkeypatch.setattr(convolutions.Convolution, "rows", limited(convolutions.Convolution.rows, 3))
    assert (prediction(store(tmp_path, budget), 8, 3) - planned).norm() / planned.norm() < 1e-10


@pytest.mark.parametrize("budget", BUDGETS)
def test_what_finds_no_memory_ahead_is_read_when_it_is_needed(
    budget: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_ahead = Prefetcher.look_ahead

    def ahead(self: Prefetcher, *arguments: Any) -> None:
        self.copies.streams.ahead = True  # type: ignore[attr-defined]
        try:
            look_ahead(self, *arguments)
        finally:
            self.copies.streams.ahead = False  # type: ignore[attr-defined]

    monkeypatch.setattr(Prefetcher, "look_ahead", ahead)
    streams = Short()
    copied = store(tmp_path, budget, streams)
    assert torch.equal(prediction(copied), prediction(ActivationStore.unlimited(CPU)))
    assert streams.fetched > 3


@pytest.mark.parametrize("budget", BUDGETS)
@torch.inference_mode()
def test_controlnets_are_the_same(budget: str, tmp_path: Path) -> None:
    unet, tensors = mounted("sd15")
    torch.manual_seed(0)
    net = (
        ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 8, 8), load_weights_from_unet=False)
        .double()
        .eval()
    )
    for parameter in net.parameters():  # its last convolutions start as zeros
        parameter.add_(0.1 * torch.randn_like(parameter))
    sample, text, image = (
        torch.randn(1, 4, 13, 10).double(),
        tensors["encoder_hidden_states"][:1].double(),
        torch.rand(1, 3, 104, 80).double(),
    )

    def controlled(store: ActivationStore) -> Tensor:
        network = BandedControlNet(net, 4, store, WEIGHTS)
        added = network(sample, torch.tensor(3), text, None, network.condition(Parked.of(image)), 1.0)
        return BandedUNet(unet, 4, store, WEIGHTS)(sample, torch.tensor(3), text, None, residuals=added)

    assert torch.equal(controlled(store(tmp_path, budget)), controlled(ActivationStore.unlimited(CPU)))


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


def test_a_slab_that_is_forgotten_gives_its_room_back_at_once(tmp_path: Path) -> None:
    copied = store(tmp_path, "files")
    slab = copied.slab((4, 4, 4), torch.float32)
    slab.write(Band(0, 4), torch.zeros(4, 4, 4))
    del slab
    assert copied.usage.held_bytes["file"] == 0
    for _ in range(3):  # its copy is still on its way, to a file that is closed
        other = copied.slab((4, 4, 4), torch.float32)
        other.write(Band(0, 4), torch.ones(4, 4, 4))
    assert torch.equal(other.read(Band(0, 4)), torch.ones(4, 4, 4))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of NVIDIA or AMD")
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize(("band_rows", "dilation"), [(1, 1), (4, 1), (5, 3), (100, 1)])
def test_on_a_gpu(budget: str, band_rows: int, dilation: int, tmp_path: Path) -> None:
    unet, tensors = mounted("sd15")
    cuda, sample, text = (
        torch.device("cuda"),
        torch.randn(1, 4, 61, 40).double(),
        tensors["encoder_hidden_states"][:1].double(),
    )
    arguments: tuple[Any, ...] = (torch.tensor(321), text, None, dilation)
    with torch.inference_mode():
        expected = PlainUNet(unet)(sample, *arguments)
        try:
            unet.to(cuda)
            copied = ActivationStore(cuda, StoreBudget(*BUDGETS[budget], tmp_path, overlapped=True))
            arguments = (torch.tensor(321, device=cuda), text.to(cuda), None, dilation)
            ours = BandedUNet(unet, band_rows, copied, Weights(cuda, resident=True))(sample.to(cuda), *arguments)
        finally:
            unet.to(CPU)
    assert copied.prefetcher is not None
    assert copied.prefetcher.hits > 0 or band_rows == 100
    assert (ours.cpu() - expected).norm() / expected.norm() < 1e-10
