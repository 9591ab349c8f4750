"""The number format of a job on a machine: as asked for, or the preset's if the device computes in it."""

from __future__ import annotations

from linfusion_cli.config.job import Job
from linfusion_cli.errors import UsageError, option
from linfusion_cli.system.device import Machine


def dtype_of(job: Job, machine: Machine) -> str:
    """The number format: as asked for, else the preset's for the kind of device.

    Raises UsageError for bfloat16 on a GPU that does not compute in it; where only the preset says bfloat16, float32
    is taken, which holds as wide numbers.
    """
    chosen = job.dtype if job.dtype != "auto" else _of_preset(job, machine)
    if chosen != "bfloat16" or machine.bfloat16:
        return chosen
    if job.dtype == "auto":
        return "float32"
    raise UsageError(
        f"bfloat16: {machine.device_name} does not compute in it. Nearest: ",
        option("dtype", "float32"),
        ", or ",
        option("dtype", "float16"),
        " where the model's numbers fit into it",
        parameter="dtype",
    )


def format_notes(job: Job, machine: Machine) -> tuple[str, ...]:
    """A note where the preset's number format is not used."""
    if job.dtype == "auto" and _of_preset(job, machine) != dtype_of(job, machine):
        return (f"{machine.device_name} does not compute in bfloat16, which the preset names: float32 is used",)
    return ()


def _of_preset(job: Job, machine: Machine) -> str:
    model = job.settings.model
    return model.dtype_cpu if machine.kind == "cpu" else model.dtype_cuda
