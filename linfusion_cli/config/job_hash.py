"""What decides the pixels of a job, and the hash of it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from linfusion_cli.config.job import Job
    from linfusion_cli.config.preset_schema import SamplingSettings

PIXELS_VERSION = 2  # raised when the same job starts to give other pixels
ZEROED_VERSION = 3  # of SD-XL without a negative prompt, whose embedding is zeros since
NEWER_EXTRAS = frozenset({"ip_encoder"})


def what_decides_pixels(job: Job) -> dict[str, object]:
    """The part of a job that two identical images share, ready for JSON. Locations, names and memory are not in it."""
    settings = job.settings
    ranges = {str(image.value_range) for image in job.images if image.value_range}
    return {
        **({"input_range": sorted(ranges)} if ranges else {}),
        "version": ZEROED_VERSION if _zeroed(job) else PIXELS_VERSION,
        "prompt": job.prompt,
        "negative_prompt": job.negative_prompt,
        "seed": job.seed,
        "size": [job.size.width, job.size.height],
        "dtype": job.dtype,
        "model": settings.model.model_dump(mode="json"),
        "sampling": _sampling(settings.sampling),
        "upscale": settings.upscale.model_dump(mode="json"),
        "extras": _deciding_extras(settings.extras.model_dump(mode="json")),
        "weights": dict(job.weights),
        "start": [job.start.image.sha256, job.start.refined] if job.start else [],
        "control_images": [image.sha256 for image in job.control_images],
        "ip_images": [image.sha256 for image in job.ip_images],
    }


def _deciding_extras(extras: dict[str, object]) -> dict[str, object]:
    """The extras without keys that are newer than the hashes of finished jobs, where they say nothing."""
    return {key: value for key, value in extras.items() if value or key not in NEWER_EXTRAS}


def _sampling(sampling: SamplingSettings) -> dict[str, object]:
    """The settings of the sampler, so that a job of an older version, which had no keys for some, keeps its hash."""
    shown = sampling.model_dump(mode="json") | {"guidance_scale": sampling.guidance}
    if (shown["scheduler"], shown["sigma_schedule"]) == ("dpmpp_2m", "karras"):
        shown |= {"scheduler": "dpmpp_2m_karras", "sigma_schedule": "normal"}
    later = {"sigma_schedule": "normal", "timestep_spacing": "auto"}
    return {key: value for key, value in shown.items() if later.get(key) != value}


def _zeroed(job: Job) -> bool:
    """Whether the negative embedding may be zeros (force_zeros_for_empty_prompt)."""
    return job.settings.model.family == "sdxl" and not job.negative_prompt.strip()


def job_hash(job: Job) -> str:
    """A key of 64 hexadecimal digits: the same for two jobs exactly if they ask for the same pixels."""
    return finished_digest(shared_digest(job), job.prompt, job.seed)


def unseeded_hash(job: Job) -> str:
    """The same for jobs that differ in nothing but their seeds."""
    return finished_digest(shared_digest(job), job.prompt, -1)


def shared_digest(job: Job) -> hashlib._Hash:
    """The part of the hash that jobs share which differ in nothing but prompt and seed."""
    shared = {key: value for key, value in what_decides_pixels(job).items() if key not in ("prompt", "seed")}
    return hashlib.sha256(json.dumps(shared, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def finished_digest(shared: hashlib._Hash, prompt: str, seed: int) -> str:
    """The hash of one of these jobs."""
    digest = shared.copy()
    digest.update(f"{seed} {prompt}".encode())
    return digest.hexdigest()
