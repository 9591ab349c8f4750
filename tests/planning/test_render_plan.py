"""The plan as the engine sees it."""

from pathlib import Path

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.planning.render_plan import RenderPlan
from linfusion_cli.system.device import find_machine


def test_a_plan_for_the_engine_holds_no_job() -> None:
    job = resolve(Request(prompt="a lake", size="64x64", seed=7, output=Path("x.png")))
    plan = make_plan(job, find_machine("cpu"))
    assert isinstance(plan, RenderPlan)
    assert "job" not in RenderPlan.__dataclass_fields__
    assert (plan.size, plan.seed, plan.conditioning.prompt, plan.upscales_image) == (job.size, 7, "a lake", False)
    assert plan.peak_bytes == max(phase.peak_bytes for phase in plan.phases)
