"""The settings of a preset as strangers may see them: images, which hold them, are published."""

from __future__ import annotations

from typing import Any

from linfusion_cli.config.extras import local_name
from linfusion_cli.config.preset_keys import preset_keys
from linfusion_cli.config.preset_schema import Preset


def shown_settings(settings: Preset) -> dict[str, Any]:
    """Every value as JSON has it, by section and name; local files and folders by their names alone."""
    shown = settings.model_dump(mode="json")
    for key in preset_keys().values():
        if key.is_location:
            section, _, name = key.key.partition(".")
            shown[section][name] = _local_names(shown[section][name])
    return shown


def _local_names(value: str | list[str]) -> str | list[str]:
    return local_name(value) if isinstance(value, str) else [local_name(location) for location in value]
