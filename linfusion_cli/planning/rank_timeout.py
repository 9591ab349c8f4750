"""How long ranks wait for one that says nothing: by the plan's own times, so that a hung one is lost in minutes."""

from __future__ import annotations

from linfusion_cli.planning.render_plan import RenderPlan

LEAST_SECONDS = 60.0  # a process may be swapped out, or read its weights from a slow disk, for so long
MOST_SECONDS = 1800.0  # unless a single step takes longer
TIMES = 10.0  # as long as planned: other programs may have the cores


SETTLE_SECONDS = 5.0  # in which a process that failed has written its error and ended


def silent_seconds(plan: RenderPlan) -> float:
    """Seconds without a message after which a rank counts as lost: 10 times the longest step that is planned.

    A step is one of denoising, or a whole other phase. Ranks exchange many messages in each, so that a rank at work is
    never silent for so long. The result is 60 seconds at least, and 1800 or the longest step at most.
    """
    longest = _longest_step_seconds(plan)
    return min(max(LEAST_SECONDS, TIMES * longest), max(MOST_SECONDS, longest))


def cause_seconds(plan: RenderPlan) -> float:
    """Seconds after a lost message in which every rank that does not hang has noticed it: the longest step, or 5.

    A rank at work notices it when it waits for its next message, which is within a step.
    """
    return max(SETTLE_SECONDS, _longest_step_seconds(plan))


def _longest_step_seconds(plan: RenderPlan) -> float:
    """Of denoising, or of a whole other phase, as planned for a machine that is as busy as now."""
    steps = {stage.index: max(1, stage.steps) for stage in plan.stages}
    busy = plan.machine.slowdown
    return max(busy * phase.seconds / (steps[phase.stage] if phase.name == "denoise" else 1) for phase in plan.phases)
