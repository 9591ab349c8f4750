"""Programs that are not ours read the files: exiftool, exifr and sd-parsers their metadata, pngcheck their chunks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.file_formats import BY_NAME, file_settings
from linfusion_cli.geometry import Size
from linfusion_cli.output.formats.writer import write_image
from linfusion_cli.output.metadata import record_texts

RECORD: dict[str, Any] = {
    "version": "1",
    "prompt": "a lake at dawn, café 湖",
    "negative_prompt": "fog",
    "seed": 42,
    "steps": 20,
    "scheduler": "ddim",
    "guidance_scale": 3.5,
    "width": 64,
    "height": 48,
    "preset": "landscape",
    "model": "landscape",
}
SIZE = Size(64, 48)
ENDINGS = {"png": "png", "jpeg": "jpg", "tiff": "tif", "webp": "webp", "avif": "avif", "jxl": "jxl"}
EXIFR = """
const exifr = require('exifr'), fs = require('fs')
const parts = {tiff: true, exif: true, xmp: true, ihdr: true, userComment: true, mergeOutput: false}
Promise.all(process.argv.slice(1).map(async name => {
  const found = await exifr.parse(fs.readFileSync(name), parts)
  if (found.userComment) found.userComment = Buffer.from(found.userComment).subarray(8).swap16().toString('utf16le')
  return found
})).then(all => console.log(JSON.stringify(all)))
"""


def written(folder: Path, name: str, prompt: str = RECORD["prompt"], **settings: object) -> Path:
    """A ramp in a format, with a record and 300 dots per inch."""
    if BY_NAME[name].missing_modules:
        pytest.skip(f"{BY_NAME[name].missing_modules} is not installed")
    path = folder / f"x.{ENDINGS[name]}"
    given = {"dpi": 300, **settings}
    chosen = file_settings(BY_NAME[name], given, SIZE)
    deep = chosen.row_bits == 16
    ramp = np.linspace(0, 1, SIZE.width)[None, :, None] * np.ones((SIZE.height, 1, 3))
    rows = (ramp * (65535 if deep else 255)).astype(np.uint16 if deep else np.uint8)
    write_image(path, SIZE, chosen, record_texts({**RECORD, "prompt": prompt}), iter([rows]), overwrite=False)
    return path


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("name", ENDINGS)
def test_exiftool_reads_size_resolution_and_record(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, name)
    done = subprocess.run(["exiftool", "-j", "-a", "-G1", path], capture_output=True, text=True, check=True)
    (tags,) = json.loads(done.stdout)
    values = {key.rpartition(":")[2]: value for key, value in tags.items()}
    text = json.dumps(tags, ensure_ascii=False)
    assert values.get("ImageSize", f"{SIZE}") == f"{SIZE}"
    assert "a lake at dawn, café 湖" in text
    assert "Negative prompt: fog" in text
    assert "Seed: 42" in text
    assert "Warning" not in values, values
    assert "Error" not in values


@pytest.mark.skipif(shutil.which("pngcheck") is None, reason="pngcheck is not installed")
@pytest.mark.parametrize("settings", [{}, {"bits": 16}, {"color_profile": "display-p3"}], ids=str)
def test_pngcheck_finds_no_fault(settings: dict[str, object], tmp_path: Path) -> None:
    path = written(tmp_path, "png", **settings)
    done = subprocess.run(["pngcheck", "-v", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "No errors detected" in done.stdout


@pytest.fixture(scope="module")
def run_node() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a script in Node.js, where that and exifr (npm install --global exifr) are installed."""
    if (node := shutil.which("node")) is None:
        pytest.skip("Node.js is not installed")
    installed = Path(node).resolve().parents[1] / "lib" / "node_modules"
    paths = os.pathsep.join(filter(None, (os.environ.get("NODE_PATH"), str(installed))))

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [node, "-e", *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "NODE_PATH": paths}
        )

    if run("require('exifr')").returncode:
        pytest.skip("exifr is not installed")
    return run


def test_exifr_reads_the_record(tmp_path: Path, run_node: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    names = ["png", "jpeg", "tiff", "avif"]  # exifr opens no WebP and no JPEG XL
    done = run_node(EXIFR, *(written(tmp_path, name) for name in names))
    assert done.returncode == 0, done.stderr
    png, jpeg, tiff, avif = found = json.loads(done.stdout)
    words = record_texts(RECORD)["parameters"]
    assert [jpeg["userComment"], avif["userComment"], tiff["ifd0"]["ImageDescription"]] == [words] * 3
    assert [one["dc"]["description"]["value"] for one in (jpeg, tiff)] == [words] * 2
    records = [png["ihdr"]["linfusion"], *(one["linfusion"]["record"] for one in (jpeg, tiff))]
    assert [json.loads(record)["prompt"] for record in records] == [RECORD["prompt"]] * 3
    assert [one["ifd0"]["XResolution"] for one in found[1:]] == [300] * 3


def test_exifr_reads_the_parameters_of_a_png_in_ascii(
    tmp_path: Path, run_node: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    path = written(tmp_path, "png", prompt="a lake at dawn")  # it takes Latin-1 for UTF-8, and reads no iTXt
    (found,) = json.loads(run_node(EXIFR, path).stdout)
    assert found["ihdr"]["parameters"].startswith("a lake at dawn\nNegative prompt: fog\nSteps: 20,")


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])  # sd-parsers opens no other format for its metadata
def test_sd_parsers_reads_the_prompt_and_the_settings(name: str, tmp_path: Path) -> None:
    sd_parsers = pytest.importorskip("sd_parsers")
    found = sd_parsers.ParserManager().parse(written(tmp_path, name))
    assert [prompt.value for prompt in found.prompts] == ["a lake at dawn, café 湖"]
    assert [prompt.value for prompt in found.negative_prompts] == ["fog"]
    assert [model.name for model in found.models] == ["landscape"]
    (sampler,) = found.samplers
    assert (sampler.name, sampler.parameters) == ("ddim", {"cfg_scale": "3.5", "seed": "42", "steps": "20"})


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif", "jxl"])
def test_pixels_are_within_two_levels_at_quality_95(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, name, quality=95)
    if name == "jxl":
        import pillow_jxl  # noqa: F401  # registers the format
    with Image.open(path) as image:
        found = np.asarray(image.convert("RGB"), float)
    ramp = np.floor(np.linspace(0, 255, SIZE.width))[None, :, None] * np.ones((SIZE.height, 1, 3))
    assert np.abs(found - ramp).mean() <= 2
