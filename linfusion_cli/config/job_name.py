"""The name of a job's file: the fields of the template filled in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from linfusion_cli.config.filename_template import Origin, checked_name, expand, slug
from linfusion_cli.config.job import Job

ID_DIGITS = 8  # of the job's hash in names


def shared_fields(job: Job) -> dict[str, str | int]:
    """The fields of a name that all jobs of a Kind share."""
    preset = slug(Path(job.preset.removesuffix(".toml")).name)
    return {"width": job.size.width, "height": job.size.height, "size": str(job.size), "preset": preset}


def image_name(
    template: str,
    origin: Origin,
    shared: Mapping[str, str | int],
    prompt: str,
    seed: int,
    index: int,
    make_id: Callable[[], str],
    format_name: str = "",
) -> str:
    """The name of an image's file. Raises UsageError, which names `origin`, for what is no name of one image file."""
    values = {**shared, "seed": seed, "index": index}
    values["slug"] = slug(prompt) if "{slug}" in template else ""  # these two take long, and lists are long
    values["id"] = make_id()[:ID_DIGITS] if "{id}" in template else ""
    return checked_name(expand(template, values, origin), template, origin, format_name)
