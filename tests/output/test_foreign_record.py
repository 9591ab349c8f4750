"""Images of other programs: what they say, and the command that comes nearest."""

from __future__ import annotations

import itertools
import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from linfusion_cli.config.sampler_names import sampling_options
from linfusion_cli.output.foreign_record import left_out_of_nearest, nearest_command, parse_a1111, read_foreign

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


SIZES = st.tuples(st.integers(1, 9000), st.integers(1, 9000)).map(lambda size: f"{size[0]}x{size[1]}")
FIELDS = {
    "CFG scale": st.one_of(st.integers(0, 200), st.floats(0, 200).map(lambda value: f"{value:.2f}")),
    "Seed": st.integers(0, 2**34),
    "Size": st.one_of(SIZES, st.just("?")),
    "Model": st.just("dreams_v7"),
    "Denoising strength": st.just("0.4"),
    "Hires upscaler": st.just("Latent"),
    "Lora hashes": st.just('"armour: 1f2e"'),
    "Clip skip": st.integers(1, 3),
}


@given(st.fixed_dictionaries({"Steps": st.integers(0, 900)}, optional=FIELDS))
def test_every_field_of_infotext_is_in_the_command_or_named(fields: dict[str, object]) -> None:
    settings = ", ".join(f"{name}: {value}" for name, value in fields.items())
    record = parse_a1111(f"a lake\nNegative prompt: fog\n{settings}")
    command, left_out = shlex.split(nearest_command(record, {})), left_out_of_nearest(record)
    typed = dict(itertools.pairwise(command))
    assert typed["--negative-prompt"] == "fog"
    flags = {"Steps": "--steps", "CFG scale": "--guidance", "Seed": "--seed", "Size": "--size"}
    for name, value in fields.items():
        said = typed.get(flags.get(name, ""), "")
        exact = said == str(value) or (name == "CFG scale" and said and float(said) == float(str(value)))
        number = str(float(str(value))) if name == "CFG scale" else str(value)
        assert exact or any(str(value) in text or number in text or text == name for text in left_out), name


def test_nodes_beside_those_that_are_read_are_named(tmp_path: Path) -> None:
    lora = {"8": {"class_type": "LoraLoader", "inputs": {"lora_name": "x", "strength_model": 1, "model": ["4", 0]}}}
    sampler = {"3": {**COMFY["3"], "inputs": {**COMFY["3"]["inputs"], "denoise": 0.5}}}  # type: ignore[dict-item]
    found = read_foreign(png(tmp_path / "a.png", "prompt", json.dumps({**COMFY, **sampler, **lora})))
    assert found is not None
    assert found["others"] == {"3 KSampler": {"denoise": 0.5}, "8 LoraLoader": {"lora_name": "x", "strength_model": 1}}
    size = "size 515x512; 512x512 is the nearest"
    assert left_out_of_nearest(found) == [size, "model m", "3 KSampler", "8 LoraLoader"]
    invoke = json.dumps({**INVOKE, "loras": ["x"], "hrf": None})
    found = read_foreign(png(tmp_path / "b.png", "invokeai_metadata", invoke))
    assert found is not None
    assert left_out_of_nearest(found) == [size, "model m", "loras"]
