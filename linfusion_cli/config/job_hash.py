"""What decides the pixels of a job, and the hash of it."""

from __future__ import annotations

import hashlib
import json
from functools import cache

from linfusion_cli.config.job import Job
from linfusion_cli.config.preset_keys import preset_keys
from linfusion_cli.config.preset_schema import SamplingSettings
from linfusion_cli.weights.families import FAMILY_ROWS

PIXELS_VERSION = 2  # raised when the same job starts to give other pixels
ZEROED_VERSION = 3  # of SD-XL without a negative prompt, whose embedding is zeros since


def what_decides_pixels(job: Job) -> dict[str, object]:
    """The part of a job that two identical images share, ready for JSON. Locations, names and memory are not in it."""
    ranges = {str(image.value_range) for image in job.images if image.value_range}
    return {
        **({"input_range": sorted(ranges)} if ranges else {}),
        "version": ZEROED_VERSION if _zeroed(job) else PIXELS_VERSION,
        "prompt": job.prompt,
        "negative_prompt": job.negative_prompt,
        "seed": job.seed,
        "size": [job.size.width, job.size.height],
        "dtype": job.dtype,
        **{section: _keys(job, section) for section in ("model", "sampling", "upscale", "extras")},
        "weights": dict(job.weights),
        "start": [job.start.image.sha256, job.start.refined] if job.start else [],
        "control_images": [image.sha256 for image in job.control_images],
        "ip_images": [image.sha256 for image in job.ip_images],
    }


def _keys(job: Job, section: str) -> dict[str, object]:
    """A section of the job's settings without the keys that change nothing."""
    values: dict[str, object] = getattr(job.settings, section).model_dump(mode="json")
    if section == "sampling":
        values |= _older_words(job.settings.sampling)
    return {key: value for key, value in values.items() if not _is_neutral(f"{section}.{key}", value)}


def _older_words(sampling: SamplingSettings) -> dict[str, object]:
    """The keys that an older version had other values for, as it had them."""
    older: dict[str, object] = {"guidance_scale": sampling.guidance}
    if (sampling.scheduler, sampling.sigma_schedule) == ("dpmpp_2m", "karras"):
        older |= {"scheduler": "dpmpp_2m_karras", "sigma_schedule": "normal"}
    return older


def _is_neutral(key: str, value: object) -> bool:
    """Whether a key that is younger than the version has the value that changes nothing; value: as JSON has it."""
    return key in neutral_values() and neutral_values()[key] == value


@cache
def neutral_values() -> dict[str, object]:
    """The value of each such key, as JSON has it: jobs with it keep their hash."""
    values = {name: key.neutral for name, key in preset_keys().items() if key.neutral is not None}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _zeroed(job: Job) -> bool:
    """Whether the negative embedding may be zeros (force_zeros_for_empty_prompt)."""
    return FAMILY_ROWS[job.settings.model.family].two_text_encoders and not job.negative_prompt.strip()


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
