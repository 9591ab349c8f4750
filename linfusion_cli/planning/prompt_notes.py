"""What a job's prompts hold that is not read as its writer may think: told before any weight loads."""

from __future__ import annotations

from linfusion_cli.config.foreign_syntax import foreign_syntax_notes
from linfusion_cli.config.job import Job
from linfusion_cli.config.prompt_weighting import parse_weights
from linfusion_cli.errors import QUOTES_PROMPT, Message, option
from linfusion_cli.planning.job_weights import JobWeights
from linfusion_cli.planning.unknown_words import unknown_words_notes
from linfusion_cli.redaction import redacted

TOKEN = "looks as if it held an access token, and prompts are stored in the image: take it out, or give "


def prompt_notes(job: Job, weights: JobWeights) -> tuple[Message, ...]:
    """The notes that depend on the prompt and the negative prompt; no other note of a plan does, or quotes them."""
    texts = (("the prompt", job.prompt), ("the negative prompt", job.negative_prompt))
    secret = [name for name, text in texts if redacted(text) != text] if job.stores_prompt else []
    tokens = (Message(f"{name} {TOKEN}", option("store_prompt", "no")) for name in secret)
    signs = foreign_syntax_notes(job.prompt, job.negative_prompt, weights=job.settings.extras.prompt_weights)
    brackets = _bracket_notes(job) if job.settings.extras.prompt_weights else ()
    read = tuple(Message(note) for note in job.prompt_notes)
    quoting = (*unknown_words_notes(job, weights), *signs, *brackets, *read)
    return (*tokens, *(Message(QUOTES_PROMPT, note) for note in quoting))


def _bracket_notes(job: Job) -> tuple[Message, ...]:
    read = (parse_weights(job.prompt), parse_weights(job.negative_prompt, "the negative prompt"))
    return tuple(note for one in read for note in one.notes)
