"""The note about an image that the built-in model is to go on from and has not drawn."""

from __future__ import annotations

from linfusion_cli.config.extras import PRESET_OF
from linfusion_cli.config.job import Job
from linfusion_cli.config.kept_start import INIT, KEPT, UPSCALE, is_foreign
from linfusion_cli.errors import Message, option

_KEYS = {INIT: "init_strength", UPSCALE: "upscale_strength"}


def foreign_start_note(job: Job) -> Message | None:
    """What the built-in model makes of an image that it did not draw, with the strengths that are set for it."""
    start = job.start
    if start is None or not is_foreign(job.settings.model.repositories, start):
        return None
    strengths = {INIT: job.settings.sampling.init_strength, UPSCALE: job.settings.upscale.strength}
    kept = [option(_KEYS[key], f"{strengths[key]:g}") for key in (INIT, UPSCALE) if job.sources[key] == KEPT]
    joined = [part for one in kept for part in (" and ", one)][1:]
    what = f" {start.image.path.name}: the built-in model draws landscapes alone, and has not drawn this image. "
    verb = "keep" if len(kept) > 1 else "keeps"
    now = (*joined, f" {verb} its shapes; fine detail is lost.")
    chosen = ("Above a strength of about 0.1 landscapes take its place.",)
    first, *others = PRESET_OF.values()
    presets = (" For any image: ", option("preset", first), f" or {' or '.join(others)}")
    return Message(option(start.parameter), what, *(now if kept else chosen), *presets)
