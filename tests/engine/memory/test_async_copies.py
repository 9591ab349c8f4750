"""Copies beside the compute: the same pixels whenever the copies happen, in buffers that the plan counts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from late import Early, Late, NeverFinished, NeverJoined, Short
from tiny import KEEPS, limited, mounted, tiny_vae
from torch import Tensor

from linfusion_cli.engine.controlnet.banded import BandedControlNet
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.async_copies import Streams
from linfusion_cli.engine.memory.prefetcher import Prefetcher
from linfusion_cli.engine.memory.slabs import FileSlab
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.streaming import convolutions
from linfusion_cli.engine.streaming.banded_unet import BandedUNet, PlainUNet
from linfusion_cli.engine.streaming.banded_vae import Sweeper
from linfusion_cli.engine.streaming.row_source import Parked
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "streams"), [("memory", NeverJoined), ("files", NeverJoined), ("files", NeverFinished)]
)
def test_a_wait_that_is_missing_is_seen(budget: str, streams: type[Late], tmp_path: Path) -> None:
    assert not torch.equal(prediction(store(tmp_path, budget, streams())), prediction(ActivationStore.unlimited(CPU)))


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("budget", BUDGETS)
def test_lower_bands_after_a_shortage(budget: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = prediction(ActivationStore.unlimited(CPU), 8, 3)
    monkeypatch.setattr(convolutions.Convolution, "rows", limited(convolutions.Convolution.rows, 3))
    assert (prediction(store(tmp_path, budget), 8, 3) - planned).norm() / planned.norm() < 1e-10


@pytest.mark.slow
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


@pytest.mark.slow
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
