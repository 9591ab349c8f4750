"""The settings of a preset as strangers may see them: images, which hold them, are published."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from linfusion_cli.config.extras import local_name
from linfusion_cli.config.job import Job
from linfusion_cli.config.options import by_key
from linfusion_cli.config.preset_keys import preset_keys
from linfusion_cli.config.preset_schema import Preset
from linfusion_cli.flag_words import dashed


def shown_settings(settings: Preset) -> dict[str, Any]:
    """Every value as JSON has it, by section and name; local files and folders by their names alone."""
    shown = settings.model_dump(mode="json")
    for key in preset_keys().values():
        if key.is_location:
            section, _, name = key.key.partition(".")
            shown[section][name] = _local_names(shown[section][name])
    return shown


def without_prompt(job: Job) -> tuple[Job, tuple[str, ...]]:
    """The job as its record may hold it, and the texts that are left out of it: "prompt", "negative_prompt".

    Nothing is left out unless the job stores no prompt. A negative prompt that the preset has, and nobody gave, is not
    named: the preset gives it again.
    """
    if job.stores_prompt:
        return job, ()
    negative = dashed(by_key()["negative_prompt"].name)
    had = {"prompt": job.prompt, "negative_prompt": job.overrides.get(negative)}
    sampling = job.settings.sampling.model_copy(update={"negative_prompt": ""})
    bare = replace(
        job,
        prompt="",
        negative_prompt="",
        settings=job.settings.model_copy(update={"sampling": sampling}),
        overrides={name: value for name, value in job.overrides.items() if name != negative},
    )
    return bare, tuple(name for name, text in had.items() if text)


def _local_names(value: str | list[str]) -> str | list[str]:
    return local_name(value) if isinstance(value, str) else [local_name(location) for location in value]
