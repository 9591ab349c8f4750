"""Programs that are not ours read the files: exiftool their metadata, pngcheck their chunks."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.file_formats import BY_NAME, file_settings
from linfusion_cli.geometry import Size
from linfusion_cli.output.formats.writer import write_image
from linfusion_cli.output.metadata import record_texts

RECORD = {
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


def written(folder: Path, name: str, **settings: object) -> Path:
    """A ramp in a format, with a record and 300 dots per inch."""
    if BY_NAME[name].missing_modules:
        pytest.skip(f"{BY_NAME[name].missing_modules} is not installed")
    path = folder / f"x.{ENDINGS[name]}"
    given = {"dpi": 300, **settings}
    chosen = file_settings(BY_NAME[name], given, SIZE)
    deep = chosen.row_bits == 16
    ramp = np.linspace(0, 1, SIZE.width)[None, :, None] * np.ones((SIZE.height, 1, 3))
    rows = (ramp * (65535 if deep else 255)).astype(np.uint16 if deep else np.uint8)
    write_image(path, SIZE, chosen, record_texts(RECORD), iter([rows]), overwrite=False)
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


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif", "jxl"])
def test_pixels_are_within_two_levels_at_quality_95(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, name, quality=95)
    if name == "jxl":
        import pillow_jxl  # noqa: F401  # registers the format
    with Image.open(path) as image:
        found = np.asarray(image.convert("RGB"), float)
    ramp = np.floor(np.linspace(0, 255, SIZE.width))[None, :, None] * np.ones((SIZE.height, 1, 3))
    assert np.abs(found - ramp).mean() <= 2
