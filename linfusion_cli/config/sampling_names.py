"""Replaces the names of samplers and schedules of other tools by those of the table of schedulers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from linfusion_cli.config.sampler_names import (
    absent_sampler,
    absent_schedule,
    nearest_sampler,
    sampler_named,
    schedule_named,
)
from linfusion_cli.config.schedulers import SCHEDULERS, SIGMA_SCHEDULES
from linfusion_cli.errors import Message, Option, UsageError, nearest_name

SCHEDULER, SIGMAS, SPACING = "sampling.scheduler", "sampling.sigma_schedule", "sampling.timestep_spacing"
Say = Callable[[str | Option, str], Message]  # an origin and a value, as errors name them


@dataclass(frozen=True, slots=True)
class Layered:
    """A value with the layer that set it: the number of the layer, its name, and its origin as an error names it."""

    value: object
    layer: int
    source: str | Option
    origin: str | Option


def resolve_names(settings: dict[str, Layered], say: Say) -> None:
    """Replaces the names of other tools; what a name says of the sigmas beats what lower layers say of them.

    Raises UsageError for a name that is unknown or of another tool alone, and for two that contradict in one layer.
    """
    scheduler, sigmas = settings[SCHEDULER], settings[SIGMAS]
    if isinstance(scheduler.value, str) and scheduler.value not in SCHEDULERS:
        given = say(scheduler.origin, scheduler.value)
        found = sampler_named(scheduler.value)
        if found is None:
            raise UsageError(given, _instead(scheduler.value, absent_sampler, nearest_sampler, tuple(SCHEDULERS)))
        if found.sigma_schedule not in ("", *SCHEDULERS[found.scheduler].sigma_schedules()):
            why = f"{found.scheduler} has no {found.sigma_schedule} sigmas"
            raise UsageError(given, f": {why}. Nearest: {found.scheduler}")
        settings[SCHEDULER] = scheduler = replace(scheduler, value=found.scheduler)
        _imply(settings, SIGMAS, found.sigma_schedule, scheduler, given)
        _imply(settings, SPACING, found.timestep_spacing, scheduler, given)
    if isinstance(sigmas.value, str) and sigmas.value not in SIGMA_SCHEDULES:
        given = say(sigmas.origin, sigmas.value)
        named = schedule_named(sigmas.value)
        if named is None:
            raise UsageError(given, _instead(sigmas.value, absent_schedule, _nearest_sigmas, SIGMA_SCHEDULES))
        if settings[SIGMAS] is sigmas:  # else what the sampler's name implies beats it
            settings[SIGMAS] = replace(sigmas, value=named[0])
        _imply(settings, SPACING, named[1], sigmas, given)


def _imply(settings: dict[str, Layered], key: str, value: str, by: Layered, given: Message) -> None:
    """What a name of layer `by` says of another key."""
    old = settings[key]
    if not value or old.layer > by.layer:
        return
    if old.layer == by.layer and old.value != value:
        named = schedule_named(str(old.value))
        if named is None or named[0] != value:
            raise UsageError(given, f": it says {key} = {value}, and ", old.origin, f" says {old.value}. Leave one out")
    settings[key] = Layered(value, by.layer, by.source, by.origin)


def _nearest_sigmas(text: str) -> str:
    return nearest_name(text.lower(), SIGMA_SCHEDULES)


def _instead(given: str, absent: Callable[[str], str], nearest: Callable[[str], str], allowed: Sequence[str]) -> str:
    if other := absent(given):
        return f": linfusion does not have it. Nearest: {other}. Others: {', '.join(allowed)}"
    close = nearest(given)
    return f": write one of {', '.join(allowed)}." + (f' Did you mean "{close}"?' if close else "")
