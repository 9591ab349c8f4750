"""The order in which a stage works."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.stage import Run, StageRun
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.system.device import find_machine


def run_for(size: str) -> Run:
    plan = make_plan(resolve(Request(prompt="a lake", size=size, seed=1, output=Path("x.png"))), find_machine("cpu"))
    nothing: Any = SimpleNamespace(finished=lambda stage: None, started=lambda stage: None)
    parts: Any = None
    components: Any = SimpleNamespace(vae=None)
    return Run(plan, components, parts, parts, parts, parts, nothing)


def test_stages_know_their_neighbours() -> None:
    first, *_, last = run_for("1024x1024").stages()
    assert first.previous is None
    assert first.following is not None
    assert first.following.previous is first
    assert last.following is None


def test_an_image_before_the_stage_has_run_is_refused() -> None:
    stage: StageRun = run_for("64x64").stages()[-1]
    image = stage.image()
    assert image is not None
    with pytest.raises(RuntimeError, match="no latents yet"):
        next(image.rows)
