"""The examples of docs/python.md run as they are printed."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from families import make_family
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_mount_in_a_pipeline(tmp_path: Path) -> None:
    family = make_family("sd15", tmp_path / "all")
    example = runpy.run_path(str(EXAMPLES / "mount_in_a_pipeline.py"))
    example["main"](str(family.folder), str(family.linfusion), "a lake", str(tmp_path / "lake.png"), size_px=64)
    with Image.open(tmp_path / "lake.png") as image:
        assert image.size == (64, 64)


def test_stream_to_an_array(capsys: pytest.CaptureFixture[str]) -> None:
    pixels = runpy.run_path(str(EXAMPLES / "stream_to_an_array.py"))["main"]("a lake", "128x96")
    assert pixels.shape == (96, 128, 3)
    assert pixels.dtype == np.uint8
    assert "GB" in capsys.readouterr().out


def test_many_prompts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(EXAMPLES / "many_prompts.py"))["main"]
    paths = main(tmp_path, "128x96", ["a lake", "a forest"])
    assert all(path.is_file() for path in paths)
    assert "denoise of stage 0" in capsys.readouterr().out
    main(tmp_path, "128x96", ["a lake", "a forest"])
    assert capsys.readouterr().out == ""
