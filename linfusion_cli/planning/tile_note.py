"""That a tile ControlNet is shown the image that is upscaled, where it was given none of its own."""

from __future__ import annotations

from linfusion_cli.config.job import Job
from linfusion_cli.errors import Message, option
from linfusion_cli.images.input_image import InputImage


def is_upscaled(job: Job, image: InputImage) -> bool:
    """Whether an image of a ControlNet is the very one that is upscaled."""
    return job.start is not None and not job.start.refined and image is job.start.image


def tile_note(job: Job) -> Message | str:
    """A note where that is so, else ""."""
    if not job.control_images or not is_upscaled(job, job.control_images[0]):
        return ""
    name = job.control_images[0].path.name
    return Message(
        f"{name} is the control image of the tile ControlNet, too; another one is given by ", option("control_images")
    )
