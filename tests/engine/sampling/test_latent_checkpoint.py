"""An image that was interrupted after any step is, once it is done, the image that nobody interrupted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.config.schedulers import SCHEDULERS, missing_package
from linfusion_cli.engine.pipeline import images
from linfusion_cli.engine.sampling.denoiser import Conditioning
from linfusion_cli.engine.sampling.latent_checkpoint import (
    KeepNothing,
    fingerprint,
    pack,
    restore_scheduler,
    scheduler_state,
    unpack,
)
from linfusion_cli.engine.sampling.noise import generator
from linfusion_cli.engine.sampling.schedulers import Scheduler, make_scheduler
from linfusion_cli.events import Event, Note, PhaseStarted
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.planning.scheduler_choice import SchedulerChoice
from linfusion_cli.system.device import find_machine

HERE = sorted(name for name in SCHEDULERS if not missing_package(name, "normal"))
SIZE = "160x160"  # three stages of the tiny model


class Memory:
    """Keeps after every step, and remembers what was there after each call."""

    def __init__(self, kept: dict[str, bytes] | None = None) -> None:
        self.kept = dict(kept or {})
        self.history: list[dict[str, bytes]] = []

    def find(self, name: str) -> bytes:
        return self.kept.get(name, b"")

    def keep(self, name: str, data: bytes) -> None:
        self.kept[name] = data
        self.history.append(dict(self.kept))

    def due(self, *, finished: bool) -> bool:
        return finished in (True, False)


def plan_for(preset: Path, **changes: Any) -> Plan:
    request = Request(prompt="a lake", preset=str(preset), size=SIZE, seed=3, output=Path("x.png"), **changes)
    return make_plan(resolve(request), find_machine("cpu"))


def make(plan: Plan, keeper: Memory | KeepNothing, events: list[Event]) -> np.ndarray:
    for image in images(plan, events.append, keeper):
        rows = np.concatenate(list(image.rows))
    return rows


def notes(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Note)]


@pytest.mark.slow
def test_resumed_after_every_step_of_three_stages(tiny_preset: Path) -> None:
    plan, whole = plan_for(tiny_preset), Memory()
    assert len(plan.stages) == 3
    expected = make(plan, whole, [])
    assert np.array_equal(expected, make(plan, KeepNothing(), []))
    steps = sum(stage.steps for stage in plan.stages)
    assert len(whole.history) == steps + 3 + 2  # every step, every stage's result, the start of each later stage
    for kept in whole.history:
        events: list[Event] = []
        assert np.array_equal(make(plan, Memory(kept), events), expected)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", HERE)
def test_a_scheduler_goes_on_with_its_memory(tiny_preset: Path, scheduler: str) -> None:
    plan, whole = plan_for(tiny_preset, scheduler=scheduler, steps=6), Memory()
    expected = make(plan, whole, [])
    in_base, in_last = whole.history[3], whole.history[-3]
    for kept, stage in ((in_base, 0), (in_last, 2)):
        events: list[Event] = []
        assert np.array_equal(make(plan, Memory(kept), events), expected)
        assert notes(events) == [
            next(text for text in notes(events) if text.startswith(f"continuing with stage {stage}, after step"))
        ]


@pytest.mark.slow
def test_what_is_done_is_not_done_again(tiny_preset: Path) -> None:
    plan, whole = plan_for(tiny_preset), Memory()
    make(plan, whole, [])
    events: list[Event] = []
    make(plan, Memory(whole.history[-1]), events)
    assert [(event.name, event.stage) for event in events if isinstance(event, PhaseStarted)] == [
        ("load", 0),
        ("decode", 2),
    ]
    events.clear()
    make(plan, Memory(whole.history[-3]), events)  # after the last but one step
    started = [(event.name, event.stage, event.done) for event in events if isinstance(event, PhaseStarted)]
    assert started == [("load", 0, 0), ("denoise", 2, plan.stages[2].steps - 1), ("decode", 2, 0)]


@pytest.mark.slow
def test_damaged_or_foreign_checkpoints_are_told_and_not_used(tiny_preset: Path, tiny_folder: Path) -> None:
    plan, whole = plan_for(tiny_preset), Memory()
    expected = make(plan, whole, [])
    damaged = {name: data[:-1] + bytes([data[-1] ^ 1]) for name, data in whole.history[-3].items()}
    events: list[Event] = []
    assert np.array_equal(make(plan, Memory(damaged), events), expected)
    assert any("damaged and not used: its checksum is wrong" in text for text in notes(events))
    events.clear()
    forest = dataclasses.replace(plan.conditioning, prompt="a forest")
    other = dataclasses.replace(plan, conditioning=forest)  # as if the text encoder had changed
    assert np.array_equal(make(other, Memory(whole.history[-3]), events), make(other, KeepNothing(), []))
    assert any("of other weights" in text for text in notes(events))


@pytest.mark.parametrize("position", [0, 7, 9, 60, -40, -1])
@pytest.mark.parametrize("cut", [True, False])
def test_no_damage_goes_unseen(position: int, cut: bool) -> None:
    data = pack({"latents": torch.arange(12.0).reshape(1, 3, 2, 2)}, {"done": 3})
    damaged = data[:position] if cut else bytes(b ^ (4 if i == position % len(data) else 0) for i, b in enumerate(data))
    with pytest.raises(ValueError, match=r"checksum|incomplete|JSON|decode|Expecting"):
        unpack(damaged)


def test_what_is_packed_is_unpacked() -> None:
    tensors = {"a": torch.randn(2, 3), "b": torch.arange(4), "half": torch.ones(3, dtype=torch.float16)}
    found, about = unpack(pack(tensors, {"x": [1, None, "y"]}))
    assert about == {"x": [1, None, "y"]}
    assert all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in tensors.items()
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", HERE)
def test_the_state_of_a_scheduler_is_all_of_it(name: str) -> None:
    config = {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
    }
    cpu = torch.device("cpu")
    first, second = (Scheduler.start(make_scheduler(SchedulerChoice.of(name), config), 6, 1.0) for _ in range(2))
    latents = torch.randn(1, 4, 4, 4)

    def stepped(scheduler: Scheduler, index: int) -> Tensor:
        scheduler.scale(latents, scheduler.timesteps[index])
        return scheduler.step(torch.cos(latents), index, latents, [generator(0, 0, index)])

    for index in range(3):
        latents = stepped(first, index)
    restore_scheduler(second.inner, *scheduler_state(first.inner), cpu)
    assert scheduler_state(first.inner)[1] == scheduler_state(second.inner)[1]
    assert torch.equal(stepped(first, 3), stepped(second, 3))


def test_a_memory_that_can_not_be_kept_is_refused() -> None:
    scheduler = make_scheduler(SchedulerChoice.of("ddim"), {})
    scheduler.noise_sampler = object()
    with pytest.raises(TypeError, match=r"DDIMScheduler\.noise_sampler is a object"):
        scheduler_state(scheduler)


def test_every_bit_of_the_weights_counts() -> None:
    def conditioning(value: float) -> Conditioning:
        text: Tensor = torch.full((1, 2, 3), value)
        return Conditioning(text, text, torch.zeros(1, 0), torch.zeros(1, 0))

    module = torch.nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
    before = fingerprint((module,), (), conditioning(1), "float32")
    assert before == fingerprint((module,), (), conditioning(1), "float32")
    assert before != fingerprint((module,), (), conditioning(1), "float16")
    assert before != fingerprint((module,), (), conditioning(1.0001), "float32")
    module.bias.data.view(torch.int32)[4] ^= 1
    assert before != fingerprint((module,), (), conditioning(1), "float32")


@pytest.fixture(scope="module")
def undisturbed(tiny_preset: Path) -> tuple[np.ndarray, dict[str, bytes]]:
    """An image, and what was kept after its first step."""
    memory = Memory()
    image = make(plan_for(tiny_preset), memory, [])
    return image, next(kept for kept in memory.history if "step" in kept)


def _without(about: dict[str, object], key: str) -> dict[str, object]:
    return {name: value for name, value in about.items() if name != key}


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoil",
    [
        lambda tensors, about: (tensors, {**about, "done": -5}),
        lambda tensors, about: (tensors, {**about, "done": 10**9}),
        lambda tensors, about: (tensors, {**about, "done": "2"}),
        lambda tensors, about: (tensors, _without(about, "done")),
        lambda tensors, about: (tensors, _without(about, "scheduler")),
        lambda tensors, about: (tensors, {**about, "scheduler": []}),
        lambda tensors, about: (tensors, {**about, "scheduler": {**about["scheduler"], "step": None}}),
        lambda tensors, about: (tensors, {**about, "scheduler": {**about["scheduler"], "timesteps": {"cpu": "no"}}}),
        lambda tensors, about: (tensors, {**about, "scheduler": {**about["scheduler"], "timesteps": 7}}),
        lambda tensors, about: ({**tensors, "latents": torch.zeros(1, 4, 1, 1)}, about),
        lambda tensors, about: ({**tensors, "latents": tensors["latents"].double()}, about),
        lambda tensors, about: ({**tensors, "latents": tensors["latents"] * float("nan")}, about),
        lambda tensors, about: ({name: value for name, value in tensors.items() if name != "latents"}, about),
    ],
)
def test_a_checkpoint_of_right_hash_and_wrong_content_is_damaged_and_not_used(
    tiny_preset: Path, undisturbed: tuple[np.ndarray, dict[str, bytes]], spoil: Any
) -> None:
    expected, kept = undisturbed
    events: list[Event] = []
    spoilt = Memory({**kept, "step": pack(*spoil(*unpack(kept["step"])))})
    assert np.array_equal(make(plan_for(tiny_preset), spoilt, events), expected)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any(text.startswith("the checkpoint step is damaged and not used") for text in notes)
