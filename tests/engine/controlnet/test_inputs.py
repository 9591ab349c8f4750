"""A ControlNet acts with its own image, fitted to the stage, for its share of the steps, or it costs nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from linfusion_cli.config.input_images import inspect_image
from linfusion_cli.engine.controlnet import inputs
from linfusion_cli.engine.controlnet.inputs import control_field, stage_controls
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.geometry import Band, Size
from linfusion_cli.planning.render_plan import ControlInput
from linfusion_cli.planning.upscale_schedule import Bands, Stage

CPU = torch.device("cpu")
TIMESTEPS = torch.tensor([900, 700, 500, 300, 100])


def stage(index: int = 1, size: Size = Size(64, 64), overscan: int = 0, band: int = 0) -> Stage:  # noqa: B008
    canvas = Size(size.width + 2 * overscan, size.height + 2 * overscan)
    return Stage(
        index=index,
        size=size,
        before=size,
        canvas=canvas,
        margin_px=overscan,
        ratio=1.0,
        dilation=1,
        strength=1.0,
        steps=5,
        guided_steps=5,
        dilated_steps=0,
        attention="linear",
        bands=Bands(band, 64, ()),
    )


@pytest.fixture
def edges(tmp_path: Path) -> Path:
    """A white square on black, 128x64: its middle is a square of the whole height."""
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[16:48, 48:80] = 255
    Image.fromarray(pixels).save(tmp_path / "edges.png")
    return tmp_path / "edges.png"


def given(path: Path, scale: float = 0.8, end: float = 1.0, preprocess: str = "none") -> ControlInput:
    return ControlInput(image=inspect_image(path, "control_images"), scale=scale, end=end, preprocess=preprocess)


def pixels(given: ControlInput, stage: Stage) -> torch.Tensor:
    field = control_field(given, stage, CPU)
    return field.rows(Band(0, field.height))


def test_the_image_is_fitted_to_the_shape_of_the_stage(edges: Path) -> None:
    found = pixels(given(edges), stage())
    assert found.shape == (1, 3, 64, 64)
    assert found.dtype == torch.float32
    expected = torch.zeros(64, 64)
    expected[16:48, 16:48] = 1  # the middle of the image, as high as it is
    assert torch.allclose(found[0], expected.expand(3, 64, 64), atol=0.01)


def test_it_is_resized_to_the_stage_and_stays_within_0_and_1(edges: Path) -> None:
    found = pixels(given(edges), stage(size=Size(128, 128)))
    assert found.shape == (1, 3, 128, 128)
    assert found.min() >= 0
    assert found.max() <= 1
    assert found[0, :, 64, 64].min() > 0.99


def test_the_overscan_repeats_the_edges(edges: Path) -> None:
    inner, whole = pixels(given(edges), stage()), pixels(given(edges), stage(overscan=8))
    assert whole.shape == (1, 3, 80, 80)
    assert torch.allclose(whole[..., 8:-8, 8:-8], inner, atol=1e-6)


def test_canny_leaves_lines_alone(edges: Path) -> None:
    pytest.importorskip("cv2")
    lines = pixels(given(edges, preprocess="canny"), stage())
    assert set(lines.round(decimals=4).unique().tolist()) == {0.0, 1.0}
    assert lines[0, 0, 32, 32] == 0, "inside the square there is no edge"
    assert 0 < lines.mean() < 0.2


class Network:
    """A ControlNet of which the inputs alone are looked at."""

    config = {inputs.POOLED: False}  # noqa: RUF012

    def __init__(self) -> None:
        self.attentions: list[str] = []

    def attend(self, attention: str) -> Any:
        self.attentions.append(attention)
        return self

    def named_parameters(self) -> list[Any]:
        return []

    named_buffers = named_parameters


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Which kind of network was made, with which height of its bands."""
    made: list[tuple[str, int]] = []

    class Built:
        def __init__(self, kind: str, rows: int) -> None:
            made.append((kind, rows))

        def condition(self, field: Any) -> Any:
            return field

    monkeypatch.setattr(inputs, "banded", lambda model, mode, rows, *rest: Built("bands", rows))
    monkeypatch.setattr(
        inputs.WholeOrBandedControlNet, "of", staticmethod(lambda model, mode, rows, *rest: Built("whole", rows))
    )
    return made


def controls(nets: tuple[Network, ...], inputs: tuple[ControlInput, ...], stage: Stage) -> tuple[Any, ...]:
    any_nets: Any = nets
    weights = Weights(CPU, resident=True)
    return stage_controls(any_nets, inputs, stage, TIMESTEPS, ActivationStore.unlimited(CPU), weights)


@pytest.mark.parametrize(
    ("end", "acting"),
    [(1.0, [100, 300, 500, 700, 900]), (0.5, [700, 900]), (0.6, [500, 700, 900]), (0.2, [900])],
)
def test_it_acts_for_its_share_of_the_steps(
    edges: Path, built: list[tuple[str, int]], end: float, acting: list[float]
) -> None:
    (control,) = controls((Network(),), (given(edges, end=end),), stage())
    assert sorted(control.timesteps) == acting
    assert control.scale == 0.8


@pytest.mark.parametrize(("scale", "end"), [(0.0, 1.0), (0.8, 0.0), (0.8, 0.1)])
def test_what_acts_at_no_step_is_not_moved_and_not_read(
    edges: Path, built: list[tuple[str, int]], scale: float, end: float
) -> None:
    network = Network()
    assert controls((network,), (given(edges, scale, end),), stage()) == ()
    assert network.attentions == []
    assert built == []


@pytest.mark.parametrize(("index", "attention"), [(0, "softmax"), (1, "linear")])
def test_it_keeps_its_own_attention_at_stage_0(
    edges: Path, built: list[tuple[str, int]], index: int, attention: str
) -> None:
    network = Network()
    controls((network,), (given(edges),), stage(index))
    assert network.attentions == [attention]


@pytest.mark.parametrize(("band", "kind"), [(0, ("whole", 4)), (3, ("bands", 3))])
def test_it_is_computed_in_bands_where_the_unet_is(
    edges: Path, built: list[tuple[str, int]], band: int, kind: tuple[str, int]
) -> None:
    controls((Network(), Network()), (given(edges), given(edges)), stage(band=band))
    assert built == [kind, kind]


def test_each_network_needs_its_image(edges: Path, built: list[tuple[str, int]]) -> None:
    with pytest.raises(ValueError, match="zip"):
        controls((Network(), Network()), (given(edges),), stage())
