"""Jobs: what a request becomes, and what is refused."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from linfusion_cli.cli.spelling import told
from linfusion_cli.config.job_hash import job_hash, what_decides_pixels
from linfusion_cli.config.option_rows import LARGEST_SEED
from linfusion_cli.config.presets import load_preset
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import UsageError, option
from linfusion_cli.geometry import Size

ASKED = Request(prompt="a lake", seed=5, size="1024x512")


def refusal(**changes: object) -> str:
    with pytest.raises(UsageError) as caught:
        resolve(replace(ASKED, **changes))  # type: ignore[arg-type]
    return told(caught.value)


def test_a_request_becomes_a_job() -> None:
    job = resolve(
        replace(ASKED, steps=30, negative_prompt="people", device="cpu", max_memory="6GB", stages_folder=Path("stages"))
    )
    assert (job.prompt, job.negative_prompt, job.seed, job.size, job.preset) == (
        "a lake",
        "people",
        5,
        Size(1024, 512),
        "landscape",
    )
    assert (job.settings.sampling.steps, job.sources["sampling.steps"]) == (30, option("steps"))
    assert (job.device, job.dtype, job.max_memory_bytes, job.overwrite) == ("cpu", "auto", 6 * 10**9, False)
    assert (job.stages_folder, job.memory_log) == (Path("stages"), None)
    assert job.output == Path("landscape-5-1024x512.png")
    assert job.overrides == {"--steps": 30, "--negative-prompt": "people", "--size": "1024x512", "--device": "cpu"}


def test_a_flag_that_equals_the_preset_is_still_the_source() -> None:
    assert resolve(replace(ASKED, steps=25)).sources["sampling.steps"] == option("steps")


def test_a_seed_is_drawn_and_recorded() -> None:
    for asked in (None, -1):
        jobs = [resolve(replace(ASKED, seed=asked)) for _ in range(3)]
        assert len({job.seed for job in jobs}) > 1
        assert all(0 <= job.seed <= LARGEST_SEED and job.seed_drawn for job in jobs)


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t", "\u200b", "\x00"])
def test_an_empty_prompt_is_refused(prompt: str) -> None:
    assert refusal(prompt=prompt).startswith("the prompt is empty")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": "0x512"}, "--size 0x512: sides must be from 8"),
        ({"size": "-8x512"}, "Nearest: 8x512"),
        ({"size": "1001x512"}, "--size 1001x512: sides must be multiples of 8. Nearest: 1000x512"),
        ({"size": "big"}, '--size "big": write WIDTHxHEIGHT'),
        ({"seed": -2}, "--seed -2: write a whole number from 0 to 4294967295. Nearest: 0"),
        ({"seed": 2**32}, "Nearest: 4294967295"),
        ({"steps": 0}, "--steps 0: write a whole number from 1 to 500. Nearest: 3"),
        (
            {"steps": 2},
            "--steps 2: upscale.strength x sampling.steps = 0.4 x 2 = 0.8 is less than one step. Nearest: 3",
        ),
        (
            {"upscale_strength": 0.0},
            "--upscale-strength 0: upscale.strength x sampling.steps = 0 x 20 = 0 is less than one step. Nearest: 0.05",
        ),
        ({"scheduler": "lcm", "steps": 60}, "--steps 60: lcm makes at most 50. Nearest: 50"),
        ({"guidance": -0.5}, "--guidance -0.5: write a number from 0 to 100. Nearest: 0"),
        ({"guidance": float("inf")}, "--guidance inf"),
        ({"scheduler": "eulr"}, 'Did you mean "euler"?'),
        ({"attention": "quadratic"}, '--attention "quadratic": write one of linear, softmax.'),
        ({"device": "cuda:x"}, '--device "cuda:x": write one of auto, cpu, cuda'),
        ({"dtype": "float61"}, 'Did you mean "float16"?'),
        ({"preset": "landscap"}, 'Did you mean "landscape"?'),
        ({"prompt": "a\udcff"}, "the prompt is not a text in UTF-8: see character 2"),
        ({"prompt": "x" * 70000}, "at most 65536"),
        ({"output": Path("a.gif")}, "images end in .png, .jpg"),
        ({"output": Path("a.webp"), "size": "16384x8"}, "at most 16383 pixels a side"),
        ({"output": Path("a.jpg"), "bits": 16}, "8 bits per channel"),
        ({"output": Path("a.jpg"), "quality": 101}, "Nearest: 100"),
        ({"format": "gif"}, 'format "gif"'),
        ({"output": Path("{sed}.png")}, 'unknown field "{sed}". Did you mean "seed"? Fields: {preset} {seed}'),
        ({"output": Path("{seed.real}.png")}, '"{seed.real}" is not a field'),
        ({"output": Path("{seed!r}.png")}, "is not a field"),
        ({"output": Path("{seed:>9}.png")}, "is not a field"),
        ({"output": Path("{0}.png")}, 'unknown field "{0}"'),
        ({"output": Path("{}.png")}, "is not a field"),
        ({"output": Path("{slug:04d}.png")}, "only numbers can be padded"),
        ({"output": Path("a\nb.png")}, "without folders and control characters"),
        ({"output": Path("x" * 300)}, "at most 240"),
    ],
)
def test_what_can_not_be_rendered_is_refused_with_what_is_allowed(changes: dict[str, object], words: str) -> None:
    assert words in refusal(**changes)


def test_few_steps_are_enough_for_an_image_without_upscale() -> None:
    assert resolve(replace(ASKED, size="128x128", steps=1)).settings.sampling.steps == 1


@pytest.mark.parametrize(
    ("text", "size", "words"),
    [("9x9", None, "line 2: output.size = 9x9"), ("3k", None, 'line 2: output.size = "3k"'), ("9x9", "8x8", "")],
)
def test_a_bad_size_in_a_preset_names_the_line(tmp_path: Path, text: str, size: str | None, words: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'[output]\nsize = "{text}"\n')
    if words:
        assert words in refusal(preset=str(file), size=size)
    else:
        assert resolve(replace(ASKED, preset=str(file), size=size)).size == Size(8, 8)


@pytest.mark.parametrize("name", ["../x.png", "/etc/x", "a/b"])
def test_a_template_in_a_preset_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'[output]\nname = "{name}"\n')
    assert "without folders" in refusal(preset=str(file))


@pytest.mark.parametrize(
    ("output", "path"),
    [
        ("x/{slug}-{index:04d}", "x/a-lake-0007.png"),
        ("{preset}_{size}.PNG", "landscape_1024x512.PNG"),
        ("{{seed}}.png", "{seed}.png"),
        ("v1.5", "v1.5.png"),
    ],
)
def test_the_output_is_a_template(output: str, path: str) -> None:
    assert resolve(replace(ASKED, output=Path(output), index=7)).output == Path(path)


def test_an_output_that_is_a_folder_gets_the_preset_s_name(tmp_path: Path) -> None:
    assert resolve(replace(ASKED, output=tmp_path)).output == tmp_path / "landscape-5-1024x512.png"


def test_the_file_of_a_preset_gives_its_name_to_the_image(tmp_path: Path) -> None:
    file = tmp_path / "my best.toml"
    file.write_text("")
    assert resolve(replace(ASKED, preset=str(file))).output == Path("my-best-5-1024x512.png")


def test_a_shape_is_recorded_as_the_size_that_it_makes() -> None:
    job = resolve(Request(prompt="a", aspect="1:1", long_side=512, seed=1))
    typed = resolve(Request(prompt="a", size="512x512", seed=1))
    assert (str(job.size), job.overrides) == ("512x512", {"--size": "512x512"})
    assert job_hash(job) == job_hash(typed)


def test_the_presets_of_16k_are_of_the_size_named_16k() -> None:
    for preset in ("sd15-16k", "sd21-16k", "sdxl-16k"):
        assert load_preset(preset).settings.output.size == "16k"


def test_one_side_of_an_upscale_keeps_its_shape(tmp_path: Path) -> None:
    Image.new("L", (160, 80)).save(tmp_path / "a.png")
    job = resolve(Request(prompt="a", upscale_image=tmp_path / "a.png", width=640, seed=1))
    assert str(job.size) == "640x320"


def test_an_output_that_is_a_device_or_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", *map(Path, ("/dev/null", "/dev/stdout", "/dev/fd/1", "/dev/new.png"))):
        assert f'--output "{path}" is a device, a pipe or a socket' in refusal(output=path)


def test_the_loras_of_a_model_stay_with_it(tmp_path: Path) -> None:
    own = ("builtin:landscape/upscale_lora.safetensors@upscale",)
    assert resolve(ASKED).settings.loras == own
    assert resolve(replace(ASKED, model="builtin:landscape", preset="landscape")).settings.loras == own
    mine = f"{tmp_path}/mine.safetensors:0.5"
    assert resolve(replace(ASKED, loras=(mine,))).settings.loras == (*own, mine)
    other = replace(ASKED, model="owner/other", preset="landscape", loras=(mine,))
    assert resolve(other).settings.loras == (mine,)
    (tmp_path / "none.toml").write_text('extends = "landscape"\n[model]\nloras = []\n')
    without = resolve(replace(ASKED, preset=str(tmp_path / "none.toml")))
    assert without.settings.loras == ()
    assert job_hash(without) != job_hash(resolve(ASKED))


def test_presets_without_loras_of_their_model_keep_their_hash() -> None:
    """The key is younger than the version of hashes."""
    job = resolve(replace(ASKED, preset="sd15-4k"))
    assert job.settings.model.loras == ()
    assert "loras" not in what_decides_pixels(job)["model"]  # type: ignore[operator]
