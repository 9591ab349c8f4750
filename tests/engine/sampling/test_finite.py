"""NaN and infinity: found after each step and band, named, never kept; in float16 computed again where that helps."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.pipeline import images
from linfusion_cli.engine.sampling.finite import is_finite, wider_dtype
from linfusion_cli.engine.sampling.latent_checkpoint import LATENTS, pack, unpack
from linfusion_cli.errors import NotFiniteError, WeightsError
from linfusion_cli.events import Event, Note
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.system.device import find_machine

pytestmark = pytest.mark.slow  # all of them together


class Memory:
    """A keeper that is always asked to keep."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def find(self, name: str) -> bytes:
        return self.kept.get(name, b"")

    def keep(self, name: str, data: bytes) -> None:
        self.kept[name] = data

    def due(self, *, finished: bool) -> bool:
        return finished in (True, False)


@pytest.fixture
def changed(tiny_folder: Path, tiny_preset: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a preset of the tiny model with one tensor of one part changed."""

    def change(part: str, name: str, how: Callable[[Tensor], Tensor]) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(tiny_folder, folder)
        (file,) = (folder / part).glob("*.safetensors")
        tensors = load_file(file)
        tensors[name] = how(tensors[name])
        save_file(tensors, file, {"format": "pt"})
        preset = tmp_path / "changed.toml"
        preset.write_text(tiny_preset.read_text().replace(str(tiny_folder), str(folder)))
        return preset

    return change


def plan_for(preset: Path, **changes: object) -> Plan:
    asked = Request(prompt="a lake", preset=str(preset), size="128x128", seed=3, output=Path("x.png"))
    request = replace(asked, **changes)  # type: ignore[arg-type]
    return make_plan(resolve(request), find_machine("cpu"))


def make(plan: Plan, memory: Memory, events: list[Event]) -> np.ndarray:
    for image in images(plan, events.append, memory):
        rows = np.concatenate(list(image.rows))
    return rows


def notes(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Note)]


def spoilt(tensor: Tensor) -> Tensor:
    tensor = tensor.clone()
    tensor.view(-1)[0] = math.nan
    return tensor


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
@given(place=st.integers(0, 99), seed=st.integers(0, 99))
def test_one_bad_value_anywhere_is_found(bad: float | None, place: int, seed: int) -> None:
    values = torch.randn(1, 4, 5, 5, generator=torch.Generator().manual_seed(seed))
    if bad is not None:
        values.view(-1)[place] = bad
    assert is_finite(values) == bool(torch.isfinite(values).all())


def test_a_sum_that_overflows_is_no_bad_value() -> None:
    assert is_finite(torch.full((4,), 3e38))
    assert not is_finite(torch.tensor([math.inf, -math.inf]))


@pytest.mark.parametrize(
    ("part", "name", "where"),
    [
        ("unet", "conv_out.weight", "stage 0 (64x64) denoise, step 1 of 6, in float32"),
        ("vae", "decoder.conv_out.weight", "decode, rows from 0, in float32"),
        ("text_encoder", "final_layer_norm.weight", "the encoded prompt, in float32"),
    ],
)
def test_a_damaged_weight_is_named_and_nothing_is_kept(
    changed: Callable[..., Path], part: str, name: str, where: str
) -> None:
    memory = Memory()
    with pytest.raises(NotFiniteError) as told:
        make(plan_for(changed(part, name, spoilt)), memory, [])
    assert where in str(told.value)
    assert part == "text_encoder" or f"{name} of " in str(told.value)
    assert len(str(told.value)) <= 400
    assert "step" not in memory.kept or part == "vae"
    for data in memory.kept.values():
        assert torch.isfinite(unpack(data)[0][LATENTS]).all()


def test_float32_that_overflows_without_a_damaged_weight_says_what_to_try(changed: Callable[..., Path]) -> None:
    preset = changed("unet", "conv_out.weight", lambda tensor: torch.full_like(tensor, 3e38))
    with pytest.raises(WeightsError, match=r"lower scale.*scheduler"):
        make(plan_for(preset), Memory(), [])


def test_a_step_that_overflows_in_float16_is_computed_once_more(changed: Callable[..., Path]) -> None:
    """The layer behind it is a group norm, so that float32 gives a plain image."""
    preset = changed("unet", "conv_in.weight", lambda tensor: tensor * 1e5)
    events: list[Event] = []
    drawn = make(plan_for(preset, dtype="float16"), Memory(), events)
    assert any("overflows in float16: it is computed once more in float32" in text for text in notes(events))
    exact = make(plan_for(preset, dtype="float32"), Memory(), [])
    assert np.abs(drawn.astype(int) - exact).mean() < 2


def test_without_room_the_number_format_is_named(changed: Callable[..., Path]) -> None:
    preset = changed("unet", "conv_in.weight", lambda tensor: tensor * 1e5)
    plan = plan_for(preset, dtype="float16")
    full = replace(plan, budget_bytes=plan.peak_bytes)
    with pytest.raises(NotFiniteError, match='float16 ends at 65504; use dtype="bfloat16" or dtype="float32"'):
        make(full, Memory(), [])


def test_the_second_format_fits_the_room(tiny_preset: Path) -> None:
    plan = plan_for(tiny_preset, dtype="float16")
    weights, peak = 1000, plan.peak_bytes
    for room, expected in ((weights - 1, None), (weights, torch.bfloat16), (peak + weights, torch.float32)):
        assert wider_dtype(replace(plan, budget_bytes=peak + room), weights) == expected
    assert wider_dtype(replace(plan, dtype="bfloat16"), 0) is None
    assert wider_dtype(replace(plan, weights_resident=False), 0) is None


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (4, 8, 8), (2, 4, 8, 8)])
def test_a_checkpoint_of_no_numbers_is_damaged_and_not_used(tiny_preset: Path, shape: tuple[int, ...]) -> None:
    plan, memory, events = plan_for(tiny_preset), Memory(), list[Event]()
    first = make(plan, memory, [])
    about = unpack(memory.kept["stage-0"])[1]
    memory.kept = {"stage-0": pack({LATENTS: torch.full(shape, math.nan)}, about)}
    assert np.array_equal(make(plan, memory, events), first)
    assert any(text.startswith("the checkpoint stage-0 is damaged and not used") for text in notes(events))
