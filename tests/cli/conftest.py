"""A plan, a machine and a renderer that cost nothing, for the tests of what is printed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from clock import Clock

from linfusion_cli.config.job import Job
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.events import Note, PhaseFinished, PhaseStarted, Progressed
from linfusion_cli.geometry import Size


def fake_plan(job: Job, machine: object, **_: object) -> Any:
    stages = (
        SimpleNamespace(
            index=0,
            size=Size(128, 64),
            ratio=1.0,
            strength=1.0,
            steps=2,
            guided_steps=1,
            dilated_steps=0,
            bands=SimpleNamespace(unet_latent=0, vae_px=64),
        ),
        SimpleNamespace(
            index=1,
            size=Size(256, 128),
            ratio=2.0,
            strength=0.4,
            steps=1,
            guided_steps=1,
            dilated_steps=1,
            bands=SimpleNamespace(unet_latent=8, vae_px=64),
        ),
    )
    phases = (
        SimpleNamespace(name="denoise", stage=0, total=2, unit="steps", peak_bytes=300_000_000, seconds=4.0),
        SimpleNamespace(name="decode", stage=1, total=128, unit="rows", peak_bytes=2_500_000_000, seconds=6.0),
    )
    plan = SimpleNamespace(
        job=job, machine=machine, stages=stages, phases=phases, peak_bytes=2_500_000_000, seconds=10.0
    )
    plan.__dict__.update(dtype="float32", attention="linear", budget_bytes=0, notes=("a note \x1b[31m",))
    plan.as_dict = lambda: {"seconds": 10.0, "prompt": job.prompt}
    return plan


def fake_machine() -> Any:
    return SimpleNamespace(
        device="cpu",
        device_name="a chip",
        reason="no GPU",
        slowdown=1.0,
        speed=lambda dtype: SimpleNamespace(measured=True),
    )


def fake_render(plan: Any, notify: Callable[[object], None]) -> Any:
    for phase in plan.phases:
        notify(PhaseStarted(name=phase.name, stage=phase.stage, total=phase.total, unit=phase.unit))
        for done in range(1, phase.total + 1):
            notify(Progressed(done=done))
        notify(
            PhaseFinished(
                name=phase.name, stage=phase.stage, seconds=1.0, peak_bytes=phase.peak_bytes, device_peak_bytes=0
            )
        )
    notify(Note(text="halved the band"))
    return SimpleNamespace(
        plan=plan,
        path=plan.job.output,
        seconds=12.0,
        peak_bytes=2_000_000_000,
        device_peak_bytes=0,
        rank_uses=(),
        record={"seed": plan.job.seed},
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def plan() -> Any:
    """A plan of two stages and two phases."""
    job = resolve(Request(prompt="a [b]lake\x1b]8;;", seed=5, size="256x128", output=Path("lake.png")))
    return fake_plan(job, fake_machine())


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands in for machine, plan and run; a test may replace its attributes."""
    machine = fake_machine()
    parts = SimpleNamespace(
        render=fake_render,
        make_plan=fake_plan,
        interrupted_seed=lambda job: None,
        obstacles=lambda plan: (),
        find_machine=lambda device: machine,
    )
    for module, names in (
        ("system.device", ["find_machine"]),
        ("planning.planner", ["make_plan"]),
        ("render", ["render", "interrupted_seed", "obstacles"]),
    ):
        stand_in = ModuleType(f"linfusion_cli.{module}")
        for name in names:
            setattr(stand_in, name, lambda *given, name=name, **named: getattr(parts, name)(*given, **named))
        monkeypatch.setitem(sys.modules, f"linfusion_cli.{module}", stand_in)
    return parts


@pytest.fixture
def rendered(plan: Any) -> Any:
    """What a renderer returns."""
    return SimpleNamespace(
        plan=plan,
        path=Path("lake.png"),
        seconds=12.0,
        peak_bytes=2_000_000_000,
        device_peak_bytes=0,
        rank_uses=(),
        record={"seed": 5},
    )
