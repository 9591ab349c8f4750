"""A row of the table of schedulers as the engine is told it: resolved, so that the engine looks nothing up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from linfusion_cli.config.schedulers import SCHEDULERS, schedule_options
from linfusion_cli.errors import UsageError, option

ZERO_SNR = "rescale_betas_zero_snr"  # diffusers' name for it in a scheduler's config


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerChoice:
    """The scheduler of an image.

    name: in the table, for messages; class_name: in diffusers
    schedule: names and values of its configuration that stand in for the model's: sigmas and timestep spacing
    options: those that it always has
    zero_snr_names: all schedulers that know a noise schedule of zero terminal SNR (arXiv 2305.08891)
    """

    name: str
    class_name: str
    schedule: tuple[tuple[str, Any], ...]
    options: tuple[tuple[str, Any], ...]
    zero_snr_names: tuple[str, ...]

    @staticmethod
    def of(name: str, sigma_schedule: str = "normal", timestep_spacing: str = "auto") -> SchedulerChoice:
        """The scheduler of that name with its sigma schedule and timestep spacing.

        Raises UsageError, with the names of the table, if it is not there.
        """
        if name not in SCHEDULERS:
            raise UsageError(f'scheduler "{name}" is unknown. Allowed: ' + ", ".join(sorted(SCHEDULERS)))
        row = SCHEDULERS[name]
        return SchedulerChoice(
            name=name,
            class_name=row.class_name,
            schedule=tuple(schedule_options(sigma_schedule, timestep_spacing).items()),
            options=tuple(row.options.items()),
            zero_snr_names=tuple(other for other, its in SCHEDULERS.items() if its.zero_snr),
        )

    def require_zero_snr(self) -> None:
        """Raises UsageError if the scheduler would ignore the zero terminal SNR that a model was trained with."""
        if self.name not in self.zero_snr_names:
            raise UsageError(
                f'scheduler "{self.name}" knows no schedule of zero terminal SNR, which this model was trained with. '
                f"Allowed: {', '.join(self.zero_snr_names)}. Nearest: ",
                option("scheduler", "ddim"),
                parameter="scheduler",
            )
