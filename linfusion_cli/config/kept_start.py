"""How the built-in model keeps an image that it did not draw: by strengths so low that landscapes do not take over.

Measured on four photos at 512 pixels a side: docs/log.md, 2026-11-28.
"""

from __future__ import annotations

from dataclasses import replace

from linfusion_cli.config.extras import Start
from linfusion_cli.config.preset_files import DEFAULT_PRESET, DEFAULTS
from linfusion_cli.config.preset_schema import BUILTIN
from linfusion_cli.config.presets import Loaded

KEPT_STRENGTH = 0.05  # of the steps, at least one of them
KEPT = "of an image that the model did not draw"  # the source of a strength that is set here
UPSCALE, INIT = "upscale.strength", "sampling.init_strength"
SHIPPED = (f"{DEFAULTS}.toml", f"preset {DEFAULT_PRESET}")  # sources that nobody chose


def is_foreign(locations: tuple[str, ...], start: Start | None) -> bool:
    """Whether the model is the built-in one, and the image to start from is none that it drew from words."""
    return start is not None and BUILTIN in locations and BUILTIN not in start.image.drawn_by


def with_kept_start(loaded: Loaded, start: Start | None) -> Loaded:
    """The settings with low strengths where is_foreign() and no option or preset of a user's own sets them."""
    settings = loaded.settings
    if start is None or not is_foreign(settings.model.repositories, start):
        return loaded
    keys = [key for key in (UPSCALE, *([INIT] if start.refined else [])) if loaded.sources[key] in SHIPPED]
    strength = max(KEPT_STRENGTH, 1 / settings.sampling.steps)
    for key in keys:
        section, _, name = key.partition(".")
        changed = getattr(settings, section).model_copy(update={name: strength})
        settings = settings.model_copy(update={section: changed})
    told = dict.fromkeys(keys, KEPT)
    return replace(loaded, settings=settings, sources={**loaded.sources, **told}, origins={**loaded.origins, **told})
