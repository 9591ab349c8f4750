"""Images of other programs: what they say, and the command that comes nearest."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from linfusion_cli.config.sampler_names import sampling_options
from linfusion_cli.output.foreign_record import nearest_command, read_foreign

A1111 = "a lake, $(touch x)\nNegative prompt: fog\n"
A1111 += "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 42, Size: 515x512, Model: m"
COMFY = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 42, "steps": 20, "cfg": 7.5, "sampler_name": "dpmpp_2m", "scheduler": "karras",
            "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0], "model": ["4", 0],
        },
    },
    "4": {"inputs": {"ckpt_name": "m"}},
    "5": {"inputs": {"width": 515, "height": 512}},
    "6": {"inputs": {"text": "a lake, $(touch x)"}},
    "7": {"inputs": {"text": "fog"}},
}  # fmt: skip
INVOKE = {
    "positive_prompt": "a lake, $(touch x)", "negative_prompt": "fog", "seed": 42, "steps": 20, "cfg_scale": 7.5,
    "width": 515, "height": 512, "scheduler": "dpmpp_2m_k", "model": {"name": "m"},
}  # fmt: skip


def png(path: Path, keyword: str, text: str) -> Path:
    info = PngImagePlugin.PngInfo()
    info.add_text(keyword, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


@pytest.mark.parametrize(
    ("keyword", "text", "program"),
    [
        ("parameters", A1111, "A1111"),
        ("prompt", json.dumps(COMFY), "ComfyUI"),
        ("invokeai_metadata", json.dumps(INVOKE), "InvokeAI"),
    ],
)
def test_records_of_other_programs(tmp_path: Path, keyword: str, text: str, program: str) -> None:
    found = read_foreign(png(tmp_path / "a.png", keyword, text))
    assert found is not None
    assert {key: found[key] for key in ("program", "seed", "steps", "cfg", "width", "height", "model")} == {
        "program": program, "seed": 42, "steps": 20, "cfg": 7.5, "width": 515, "height": 512, "model": "m",
    }  # fmt: skip
    sampling = sampling_options(str(found["sampler"]), str(found.get("schedule") or ""))
    wanted = "linfusion generate --negative-prompt fog --size 512x512 --seed 42 --steps 20 --guidance 7.5"
    wanted += " --scheduler dpmpp_2m --sigma-schedule karras"
    assert shlex.split(nearest_command(found, sampling)) == [*wanted.split(), "--", "a lake, $(touch x)"]


@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_a1111_in_exif(tmp_path: Path, ending: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + A1111.encode("utf-16-be")
    Image.new("RGB", (8, 8)).save(tmp_path / f"a.{ending}", exif=exif)
    found = read_foreign(tmp_path / f"a.{ending}")
    assert found is not None
    assert (found["prompt"], found["seed"]) == ("a lake, $(touch x)", 42)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"3": {"inputs": 5}}), "null"])
def test_odd_graphs_are_none(tmp_path: Path, text: str) -> None:
    assert read_foreign(png(tmp_path / "a.png", "prompt", text)) is None
