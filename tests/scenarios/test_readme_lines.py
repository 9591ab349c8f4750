"""The README's commands with models and adapters of one's own run as printed, on tiny files in the place of theirs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from families import Family, loaded_pipeline, make_family, tiny_unet
from PIL import Image
from tiny_adapters import save_controlnet, save_ip_adapter, save_loras

from linfusion_cli.cli.app import main
from linfusion_cli.output.metadata import read_record

pytestmark = pytest.mark.slow
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
LOCATIONS = ("--lora", "--controlnet", "--ip-adapter", "--unet")
LINES = [
    line for line in re.findall(r"^linfusion .*", README, re.MULTILINE) if any(f"{one} " in line for one in LOCATIONS)
]
SMALL = ("--size", "64x64", "--steps", "2", "--seed", "1", "--attention", "softmax", "-o", "out.png")
FAMILY_OF = {"sdxl-4k": "sdxl", "sd15-4k": "sd15"}


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Family]:
    made: dict[str, Family] = {}
    return lambda name: made.setdefault(name, make_family(name, tmp_path_factory.mktemp(name) / "all"))


def put(flag: str, value: str, family: Family, folder: Path) -> str:
    """A tiny file in the place of what a README's option names; a number behind a LoRA's name stays."""
    pipeline = loaded_pipeline(family)
    if flag == "--lora":
        return f"{save_loras(pipeline, folder)[0]}:{value.rpartition(':')[2]}"
    if flag == "--controlnet":
        return str(save_controlnet(pipeline, folder / "net"))
    if flag == "--ip-adapter":
        return str(save_ip_adapter(pipeline, folder / "adapter"))
    if flag == "--unet":
        tiny_unet(family.name).save_pretrained(folder / "unet")
        return str(folder / "unet")
    if flag == "--model":
        return str(family.folder)
    if flag == "--preset":
        return family.preset()
    if flag in ("--control-image", "--ip-image"):
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / Path(value).with_suffix(".png").name)
        return str(folder / Path(value).with_suffix(".png").name)
    return value


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_readme_makes_another_image_than_without_what_it_names(
    line: str, families: Callable[[str], Family], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)[1:]
    preset = words[words.index("--preset") + 1] if "--preset" in words else "sd15-4k"
    family = families(FAMILY_OF[preset])
    words = [put(flag, word, family, tmp_path) for flag, word in zip(["", *words], words, strict=False)]
    assert main([*words, *SMALL]) == 0
    record = read_record(Path("out.png"))
    made = np.asarray(Image.open("out.png"))
    start = words[:2] + [
        part for flag in ("--model", "--preset") if flag in words for part in (flag, words[words.index(flag) + 1])
    ]
    assert main([*start, *SMALL, "--overwrite"]) == 0
    assert (np.asarray(Image.open("out.png")) != made).any()
    for flag in (one for one in LOCATIONS if one in words):
        assert Path(words[words.index(flag) + 1].split(":")[0]).name in str(record), flag


def test_each_kind_of_location_has_a_line() -> None:
    assert {one for one in LOCATIONS for line in LINES if f"{one} " in line} == set(LOCATIONS)
