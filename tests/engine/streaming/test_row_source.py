"""Where memory runs out in a band, the band is halved: the result is the same, earlier bands are not computed again."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import KEEPS, limited, mounted, tiny_vae
from torch.nn import functional as F

from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.streaming import convolutions
from linfusion_cli.engine.streaming.banded_unet import BandedUNet
from linfusion_cli.engine.streaming.banded_vae import Sweeper
from linfusion_cli.engine.streaming.row_source import Extended, Mapped, Parked, park, sweep
from linfusion_cli.geometry import Band, Size
from linfusion_cli.planning.memory_budget import Keep, StoreBudget

CPU = torch.device("cpu")
WEIGHTS = Weights(CPU, resident=True)


class Shortage:
    """Memory that suffices for so many rows of a convolution at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
        self.notes: list[str] = []
        self.store = ActivationStore(CPU, StoreBudget.unlimited(), self.notes.append)
        for kind in (convolutions.Convolution, convolutions.Convolved, convolutions.UpsampledConvolved):
            monkeypatch.setattr(kind, "rows", limited(kind.rows, rows))


@pytest.mark.slow
@pytest.mark.parametrize("dilation", [1, 3, 8])
def test_the_unet_goes_on_in_lower_bands(dilation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    unet, tensors = mounted("sd15")
    sample, text = torch.randn(1, 4, 21, 9, dtype=torch.float64), tensors["encoder_hidden_states"][:1].double()
    with torch.inference_mode():
        planned = BandedUNet(unet, 8, ActivationStore.unlimited(CPU), WEIGHTS)(
            sample, torch.tensor(321), text, None, dilation
        )
        shortage = Shortage(monkeypatch, 3)
        short = BandedUNet(unet, 8, shortage.store, WEIGHTS)(sample, torch.tensor(321), text, None, dilation)
    assert (short - planned).norm() / planned.norm() < 1e-10
    assert [note.rpartition("are ")[2] for note in shortage.notes] == ["1/2 as high", "1/4 as high"], (
        "told once for each halving, then remembered"
    )


@pytest.mark.parametrize("keep", KEEPS)
def test_the_autoencoder_goes_on_in_lower_bands(keep: tuple[Keep, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    vae, latents = tiny_vae(), torch.randn(1, 4, 9, 6)
    with torch.no_grad():
        plain = vae.decode(latents).sample
    told: list[int] = []
    store = Shortage(monkeypatch, 14).store  # a chain that is computed again asks for more rows than a band has
    image = torch.cat([rows for _, rows in Sweeper(vae, 24, keep, 10**6, store, told.append).decode(latents)], dim=2)
    assert torch.allclose(image, plain, atol=1e-5, rtol=1e-5)
    assert max(told) < 24


def test_rows_are_used_once_although_a_band_failed() -> None:
    used: list[Band] = []

    def use(band: Band, rows: torch.Tensor) -> None:
        if band.height > 2:
            raise MemoryError
        used.append(band)

    assert [
        band for band, _ in sweep(Parked.of(torch.zeros(1, 1, 7, 1)), 5, ActivationStore.unlimited(CPU), use)
    ] == used
    assert [row for band in used for row in range(band.top, band.bottom)] == list(range(7))


def test_a_row_that_does_not_fit_is_the_end() -> None:
    def fail(rows: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        park(Mapped(Parked.of(torch.zeros(1, 1, 7, 1)), fail), 4, ActivationStore.unlimited(CPU), None, lambda _: None)


def test_other_errors_are_not_taken_for_a_shortage() -> None:
    def fail(rows: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        list(sweep(Mapped(Parked.of(torch.zeros(1, 1, 7, 1)), fail), 4, ActivationStore.unlimited(CPU)))


def test_every_band_of_a_sweep_gives_memory_the_chance_to_go_back() -> None:
    bands: list[Band] = []
    relieved_after: list[int] = []
    store = ActivationStore(CPU, StoreBudget.unlimited(), relieve=lambda: relieved_after.append(len(bands)))
    for _ in sweep(Parked.of(torch.zeros(1, 1, 7, 1)), 3, store, lambda band, _: bands.append(band)):
        pass
    assert relieved_after == [1, 2, 3]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 5), st.integers(0, 5), st.integers(1, 12))
@settings(deadline=None)
def test_a_larger_canvas_repeats_the_border_in_any_bands(
    height: int, width: int, margin: int, after: int, rows: int
) -> None:
    image = torch.randn(1, 2, height, width)
    canvas = Size(margin + width + after, margin + height + after)
    whole = F.pad(image, (margin, after, margin, after), mode="replicate")
    extended = Extended(Parked.of(image), canvas, margin)
    for top in range(0, canvas.height, rows):
        band = Band(top, min(top + rows, canvas.height))
        assert torch.equal(extended.rows(band), whole[:, :, band.top : band.bottom])
        ((_, read),) = extended.reads(band)
        assert 0 <= read.top < read.bottom <= height
