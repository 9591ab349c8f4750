"""ControlNets, T2I residuals, IP-Adapters and streamed weights in bands: the same numbers as the plain way."""

from collections.abc import Iterator

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.engine.controlnet.banded import BandedControlNet, WholeOrBandedControlNet
from linfusion_cli.engine.controlnet.model import PlainControlNet
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.streaming.banded_unet import BandedUNet, PlainUNet, WholeOrBands
from linfusion_cli.engine.streaming.residuals import Residuals, combined
from linfusion_cli.engine.streaming.row_source import Parked
from linfusion_cli.errors import WeightsError
from linfusion_cli.planning.memory_budget import StoreBudget

CPU = torch.device("cpu")
STORE, WEIGHTS = ActivationStore.unlimited(CPU), Weights(CPU, resident=True)


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return (
        UNet2DConditionModel(
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(8, 16, 16),
            layers_per_block=1,
            cross_attention_dim=8,
            attention_head_dim=2,
            norm_num_groups=4,
        )
        .double()
        .eval()
    )


@pytest.fixture(scope="module")
def net(unet: UNet2DConditionModel) -> ControlNetModel:
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 8, 8)).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():  # its last convolutions start as zeros
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


@pytest.fixture(params=["softmax", "linear"])
def attended(request: pytest.FixtureRequest, unet: UNet2DConditionModel) -> Iterator[UNet2DConditionModel]:
    if request.param == "softmax":
        yield unet
        return
    linfusion = LinFusion.like(unet)
    linfusion.mount(unet)
    unet.double()
    yield unet
    linfusion.unmount(unet)


def inputs(batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(batch, 4, 13, 10).double(), torch.tensor(321), torch.randn(batch, 5, 8).double()


def close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).norm() / other.norm() < 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("band_rows", [1, 3, 13])
@pytest.mark.parametrize("dilation", [1, 2])
@torch.inference_mode()
def test_a_controlnet_in_bands_is_the_plain_one(
    attended: UNet2DConditionModel, net: ControlNetModel, band_rows: int, dilation: int
) -> None:
    sample, timestep, text = inputs()
    image = Parked.of(torch.rand(1, 3, 104, 80).double())
    plain, banded = PlainControlNet(net), BandedControlNet(net, band_rows, STORE, WEIGHTS)
    theirs = plain(sample, timestep, text, None, plain.condition(image).expand(2, -1, -1, -1), 0.7, dilation)
    ours = banded(sample, timestep, text, None, banded.condition(image), 0.7, dilation)
    expected = PlainUNet(attended)(sample, timestep, text, None, dilation, theirs)
    assert close(PlainUNet(attended)(sample, timestep, text, None, dilation, ours), expected)
    assert close(
        BandedUNet(attended, band_rows, STORE, WEIGHTS)(sample, timestep, text, None, dilation, ours), expected
    )
    assert not close(PlainUNet(attended)(sample, timestep, text, None, dilation), expected)
    twice = combined([ours, ours])
    assert close(
        BandedUNet(attended, band_rows, STORE, WEIGHTS)(sample, timestep, text, None, dilation, twice),
        PlainUNet(attended)(sample, timestep, text, None, dilation, combined([theirs, theirs])),
    )


@pytest.mark.slow
@pytest.mark.parametrize("band_rows", [1, 4, 13])
@torch.inference_mode()
def test_t2i_residuals_are_added_where_diffusers_adds_them(attended: UNet2DConditionModel, band_rows: int) -> None:
    sample, timestep, text = inputs()
    shapes = [(8, 13, 10), (16, 7, 5), (16, 4, 3)]
    residuals = Residuals.of(inside=[torch.randn(2, *shape).double() for shape in shapes])
    expected = PlainUNet(attended)(sample, timestep, text, None, 1, residuals)
    assert close(BandedUNet(attended, band_rows, STORE, WEIGHTS)(sample, timestep, text, None, 1, residuals), expected)
    assert not close(PlainUNet(attended)(sample, timestep, text, None), expected)


@torch.inference_mode()
def test_weights_that_are_lent_come_back(attended: UNet2DConditionModel) -> None:
    sample, timestep, text = inputs(1)
    expected = PlainUNet(attended)(sample, timestep, text, None)
    weights = Weights(CPU, resident=False)
    weights.move(attended)
    before = {name: parameter.data_ptr() for name, parameter in attended.named_parameters()}
    weights.move(attended)  # a second time: everything is there
    assert close(BandedUNet(attended, 4, STORE, weights)(sample, timestep, text, None), expected)
    assert {name: parameter.data_ptr() for name, parameter in attended.named_parameters()} == before
    with pytest.raises(ZeroDivisionError), weights.lent(attended.mid_block):
        raise ZeroDivisionError
    assert {name: parameter.data_ptr() for name, parameter in attended.named_parameters()} == before


def test_a_strange_unet_is_refused_by_name(unet: UNet2DConditionModel) -> None:
    strange = UNet2DConditionModel(
        down_block_types=("ResnetDownsampleBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 8),
        norm_num_groups=4,
    )
    sample, timestep, text = inputs(1)
    with pytest.raises(WeightsError, match="ResnetDownsampleBlock2D"):
        BandedUNet(strange, 4, STORE, WEIGHTS)(sample, timestep, text, None)


@pytest.mark.slow
@pytest.mark.parametrize("short", ["the image", "a step"])
@torch.inference_mode()
def test_a_controlnet_that_does_not_fit_whole_goes_on_in_bands(
    attended: UNet2DConditionModel, net: ControlNetModel, short: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the same step, whether memory runs out under its image or under a step; told once."""
    notes: list[str] = []
    sample, timestep, text = inputs()
    image = Parked.of(torch.rand(1, 3, 104, 80).double())
    plain, either = (
        PlainControlNet(net),
        WholeOrBandedControlNet.of(net, None, 5, ActivationStore(CPU, StoreBudget.unlimited(), notes.append), WEIGHTS),
    )
    expected = plain(sample, timestep, text, None, plain.condition(image), 0.7)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    if short == "the image":
        monkeypatch.setattr(PlainControlNet, "condition", full)
    condition = either.condition(image)
    if short == "a step":
        first = either(sample, timestep, text, None, condition, 0.7)
        assert close(
            PlainUNet(attended)(sample, timestep, text, None, 1, first),
            PlainUNet(attended)(sample, timestep, text, None, 1, expected),
        )
        assert not notes
        monkeypatch.setattr(PlainControlNet, "__call__", full)
    for _ in range(2):
        again = either(sample, timestep, text, None, condition, 0.7)
        assert close(
            PlainUNet(attended)(sample, timestep, text, None, 1, again),
            PlainUNet(attended)(sample, timestep, text, None, 1, expected),
        )
    assert len(notes) == 1
    assert "a ControlNet on the whole image" in notes[0]


@pytest.mark.slow
@torch.inference_mode()
def test_a_unet_that_does_not_fit_whole_goes_on_in_bands(
    attended: UNet2DConditionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    sample, timestep, text = inputs()
    either = WholeOrBands.of(attended, 5, ActivationStore(CPU, StoreBudget.unlimited(), notes.append), WEIGHTS)
    expected = either(sample, timestep, text, None)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(PlainUNet, "__call__", full)
    for _ in range(2):
        assert close(either(sample, timestep, text, None), expected)
    assert len(notes) == 1
