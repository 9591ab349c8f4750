"""`linfusion view` and `inspect --plot`: from the command to the page."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.cli.app import main
from linfusion_cli.file_formats import FileSettings
from linfusion_cli.geometry import Size
from linfusion_cli.output.formats.writer import write_image
from linfusion_cli.output.metadata import record_texts

ROOT = Path(__file__).parents[2]
SAMPLE = {"at_seconds": 1, "event": "MemorySampled", "resident_bytes": 5, "device_bytes": 0}
RECORD = {
    "version": "1",
    "prompt": "a lake",
    "seed": 3,
    "steps": 2,
    "scheduler": "ddim",
    "guidance_scale": 1.0,
    "width": 64,
    "height": 32,
    "preset": "landscape",
    "model": "landscape",
    "overrides": {"steps": 2, "output": "/etc/passwd"},
    "measured": {"denoise 0": {"seconds": 3.0, "peak_bytes": 10**9}},
}


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = iter([np.full((32, 64, 3), 90, dtype=np.uint8)])
    write_image(Path("x.png"), Size(64, 32), FileSettings(), record_texts(RECORD), rows, overwrite=False)
    return Path("x.png")


def test_a_page_is_exported_with_the_record_and_its_command(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(image), "--export", "page"]) == 0
    assert capsys.readouterr().out == f"{Path('page') / 'index.html'}\n"
    text = Path("page/data.js").read_text()
    assert "linfusion generate 'a lake' --preset landscape --size 64x32 --seed 3 --steps 2\"" in text
    assert main(["view", str(image), "--export", "other", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["type"], told["files"] > 5) == ("view", True)


@pytest.mark.slow
def test_it_serves_until_it_is_interrupted(image: Path) -> None:
    command = [sys.executable, "-m", "linfusion_cli", "view", str(image), "--no-browser"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}status.json", timeout=20) as answer:
            assert json.load(answer)["record"]["record"]["prompt"] == "a lake"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert (process.returncode, told) == (0, "stopped\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere.png"], 2, "nowhere.png: there is no such file"),
        (["x.png", "--port", "99999"], 2, "--port 99999: write a whole number from 0 to 65535. Nearest: 65535"),
        (["x.png", "--stages", "nowhere"], 2, '--stages "nowhere": there is no such folder'),
        (["broken.png", "--no-browser"], 2, "broken.png is a text. Allowed: PNG, JPEG"),
        (["x.png", "--export", "."], 74, '--export ".": already exists. Give another name'),
    ],
)
def test_what_can_t_be_shown_is_refused(
    image: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    Path("broken.png").write_text("x")
    assert main(["view", *words]) == code
    assert message in capsys.readouterr().err


def test_another_program_s_image_is_shown_without_a_record(image: Path) -> None:
    Image.new("RGB", (9, 9)).save("y.jpg")
    assert main(["view", "y.jpg", "--export", "page"]) == 0
    assert '"record": null' in Path("page/data.js").read_text()


def test_inspect_draws_the_memory(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "x.png", "--plot", "m.svg"]) == 0
    assert "denoise 0: 3.0 s, 1.00 GB" in Path("m.svg").read_text()
    Path("log").write_text(json.dumps(SAMPLE))
    assert main(["inspect", "x.png", "--plot", "l.svg", "--memory-log", "log"]) == 0
    assert "denoise" not in Path("l.svg").read_text()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--plot", "m.png"], 2, '--plot "m.png": a plot is an SVG file. Nearest: m.svg'),
        (["--memory-log", "log"], 2, "--memory-log is drawn by --plot: give both"),
        (["--plot", "m.svg", "--memory-log", "nowhere"], 2, "--memory-log nowhere: can't be read (No such file"),
        (["--plot", "m.svg", "--memory-log", "x.png"], 2, "--memory-log x.png: it holds no event of a memory log"),
        (["--plot", "x.png/m.svg"], 74, "--plot x.png/m.svg: can't be written"),
    ],
)
def test_plots_that_can_t_be_drawn_are_refused(
    image: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    assert main(["inspect", "x.png", *words]) == code
    assert message in capsys.readouterr().err
