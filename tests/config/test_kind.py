from dataclasses import replace

import pytest

from linfusion_cli.config.job_hash import job_hash
from linfusion_cli.config.kind import Kind
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import UsageError, option

ASKED = Request(prompt="", size="256x128")


def test_ids_and_names_are_those_of_the_jobs_one_by_one() -> None:
    kind = Kind(ASKED)
    for prompt, seed in (("a lake", 3), ("a forest", 2**32 - 1)):
        job = resolve(replace(ASKED, prompt=prompt, seed=seed))
        assert kind.id_of(prompt, seed) == job_hash(job)
        template = "{preset}-{seed}-{width}x{height}.png"
        assert kind.name_of(template, prompt, seed, 0, "", option("name")) == job.output.name


def test_seeds_come_from_the_words_and_their_repetition() -> None:
    kind = Kind(ASKED)
    assert kind.seed_for("a", 0) == Kind(ASKED).seed_for("a", 0)
    assert len({kind.seed_for("a", 0), kind.seed_for("a", 1), kind.seed_for("b", 0)}) == 3


def test_a_seed_out_of_range_is_refused() -> None:
    with pytest.raises(UsageError, match="Nearest: 4294967295"):
        Kind(ASKED).id_of("a", 2**32)


def test_more_loras_stand_behind_those_that_are_given() -> None:
    kind = Kind(replace(ASKED, loras=("a.safetensors:0.5",)))
    assert kind.with_loras(("b.safetensors",)).loras == ("a.safetensors:0.5", "b.safetensors")
