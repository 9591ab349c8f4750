"""What the jobs of a long list share, worked out once."""

from __future__ import annotations

from dataclasses import replace

from linfusion_cli.config.filename_template import Origin
from linfusion_cli.config.job_hash import finished_digest, shared_digest
from linfusion_cli.config.job_name import image_name, shared_fields
from linfusion_cli.config.request import Request
from linfusion_cli.config.request_checks import checked_number, checked_prompt
from linfusion_cli.config.resolve import resolve


class Kind:
    """What the jobs of a long list share, worked out once: everything but prompt, seed and name."""

    def __init__(self, request: Request) -> None:
        """Raises UsageError as resolve() does, for all that is not the prompt's or the seed's."""
        self.request = request
        self.job = resolve(replace(request, prompt="shared", seed=0, output=None))
        self._digest = shared_digest(self.job)
        self._fields = shared_fields(self.job)

    def id_of(self, prompt: str, seed: int) -> str:
        """The job_hash of the job with this checked prompt and this seed. Raises UsageError for a seed out of range."""
        return finished_digest(self._digest, prompt, checked_number("seed", seed))

    def seed_for(self, prompt: str, repeat: int) -> int:
        """The seed of the `repeat`-th job with these words that names none: always the same one."""
        return int(finished_digest(self._digest, prompt, -1 - repeat)[:8], 16)

    def with_loras(self, loras: tuple[str, ...]) -> Request:
        """What is asked for with these LoRAs beside those of the options or the preset."""
        return replace(self.request, loras=(*self.job.settings.extras.loras, *loras))

    def checked_prompt(self, prompt: str) -> str:
        """The prompt as the job will have it. Raises UsageError."""
        return checked_prompt(
            prompt, may_be_empty=self.request.upscale_image is not None, weights=self.job.settings.extras.prompt_weights
        )

    def name_of(self, template: str, prompt: str, seed: int, index: int, job_id: str, origin: Origin) -> str:
        """The name of that job's file. Raises UsageError, which names `origin`, for what is no name of an image."""
        chosen = self.request.format or ""
        prompt = prompt if self.job.stores_prompt else ""
        return image_name(template, origin, self._fields, prompt, seed, index, lambda: job_id, chosen)
