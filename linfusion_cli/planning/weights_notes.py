"""Notes on weights that nobody named: the autoencoder of a model that holds none."""

from __future__ import annotations

from pathlib import Path

from linfusion_cli.config.job import Job
from linfusion_cli.config.presets import FAMILY_VAE
from linfusion_cli.errors import Message, option
from linfusion_cli.weights.families import FAMILY_ROWS


def weights_notes(job: Job) -> tuple[Message, ...]:
    """A note for each file that is used although no option and no preset names it."""
    model = job.settings.model
    if job.sources["model.vae"] != FAMILY_VAE:
        return ()
    what = f"{model.vae} is used, the usual one of {FAMILY_ROWS[model.family].full_name}"
    name = Path(model.repositories[0]).name
    return (Message(f"{name} holds no autoencoder: {what}. Another: ", option("vae", "LOCATION")),)
