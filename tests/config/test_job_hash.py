from dataclasses import replace
from pathlib import Path

from linfusion_cli.config.job_hash import (
    PIXELS_VERSION,
    ZEROED_VERSION,
    job_hash,
    neutral_values,
    unseeded_hash,
    what_decides_pixels,
)
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve

ASKED = Request(prompt="a lake", seed=5, size="1024x512")


def test_the_hash_is_of_what_decides_the_pixels_alone() -> None:
    key = job_hash(resolve(ASKED))
    same = [
        {"output": Path("x.png")},
        {"overwrite": True},
        {"max_memory": "6GB"},
        {"memory_log": Path("m")},
        {"steps": 20},
        {"device": "cpu"},
    ]
    other = [
        {"prompt": "a sea"},
        {"seed": 6},
        {"size": "1024x1024"},
        {"steps": 21},
        {"guidance": 4.5},
        {"dtype": "float16"},
        {"negative_prompt": "x"},
    ]
    assert {job_hash(resolve(replace(ASKED, **changes))) for changes in same} == {key}  # type: ignore[arg-type]
    hashes = {job_hash(resolve(replace(ASKED, **changes))) for changes in other}  # type: ignore[arg-type]
    assert len({key, *hashes}) == 8
    assert len(key) == 64


def test_sd_xl_without_a_negative_prompt_has_a_version_of_its_own() -> None:
    def version(preset: str, negative: str) -> object:
        request = Request(prompt="a lake", preset=preset, negative_prompt=negative, seed=1, output=Path("x.png"))
        return what_decides_pixels(resolve(request))["version"]

    assert version("sdxl-4k", "") == version("sdxl-4k", " ") == ZEROED_VERSION
    assert version("sdxl-4k", "fog") == version("sd15-4k", "") == PIXELS_VERSION


def test_a_job_of_before_the_newer_keys_keeps_its_hash() -> None:
    request = replace(ASKED, preset="sd15-4k", output=Path("x.png"))
    assert job_hash(resolve(request)) == "ac6f3e9bd383269262dd3c54970fdd6f1b55e2f8ab2c7cbce2d1637112fd875d"


def test_the_neutral_values_are_the_defaults() -> None:
    settings = resolve(replace(ASKED, preset="sd15-4k")).settings.model_dump(mode="json")
    assert {key: settings[key.split(".")[0]][key.split(".")[1]] for key in neutral_values()} == neutral_values()


def test_jobs_that_differ_in_their_seeds_alone_share_the_unseeded_hash() -> None:
    one, two, other = (resolve(asked) for asked in (ASKED, replace(ASKED, seed=6), replace(ASKED, prompt="x")))
    assert unseeded_hash(one) == unseeded_hash(two) != unseeded_hash(other)
