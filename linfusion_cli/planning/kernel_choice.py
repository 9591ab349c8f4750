"""The kernels of linear attention for a job on a machine: as asked for, or the fused ones where a card can run them."""

from __future__ import annotations

from linfusion_cli.config.choices import FUSED, PLAIN
from linfusion_cli.config.job import Job
from linfusion_cli.errors import UsageError, option
from linfusion_cli.system.device import Machine


def kernels_of(job: Job, machine: Machine) -> str:
    """ "plain" or "fused"; the engine tries fused ones on the card before it uses them.

    Raises UsageError where fused kernels are asked for and the device is no CUDA card.
    """
    if machine.kind == "cuda":
        return FUSED if job.kernels == "auto" else job.kernels
    if job.kernels == FUSED:
        raise UsageError(
            f'"{FUSED}": these kernels run on CUDA cards, and this image is made on {machine.device}. Nearest: ',
            option("kernels", PLAIN),
            parameter="kernels",
        )
    return PLAIN
