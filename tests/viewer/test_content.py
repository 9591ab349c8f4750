"""What the page shows beside the image: stages, memory."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from linfusion_cli.viewer.content import Content, Shown

SAMPLE = {"at_seconds": 1.0, "event": "MemorySampled", "resident_bytes": 10**9, "device_bytes": 0}
MEASURED = {"denoise 0": {"seconds": 3, "peak_bytes": 10**9}}


def found(content: Content, name: str) -> bytes:
    return (content.find(name) or (b"", ""))[0]


def test_stages_are_shown_small_in_their_order_and_again_when_they_change(tmp_path: Path) -> None:
    stages = tmp_path / "stages"
    stages.mkdir()
    for name in ("stage-10-32x16.png", "stage-0-16x8.png", "other.png", "stage-1-99x99.txt"):
        Image.new("RGB", (2048, 16), (0, 0, 255)).save(stages / name, "PNG")
    content = Content(Shown(image=tmp_path / "x.png", stages_folder=stages), tmp_path)
    assert [each["index"] for each in content.state()["stages"]] == [0, 10]
    assert Image.open(io.BytesIO(found(content, "stages/10.jpg"))).size == (1024, 8)
    Image.new("RGB", (64, 64)).save(stages / "stage-10-32x16.png")
    assert Image.open(io.BytesIO(found(content, "stages/10.jpg"))).size == (64, 64)
    (stages / "stage-10-32x16.png").write_text("damaged")
    assert content.find("stages/10.jpg") is None
    assert content.find("stages/7.jpg") is None


def test_memory_is_the_log_s_else_the_record_s(tmp_path: Path, photo: Any) -> None:
    log, image = tmp_path / "log", tmp_path / "x.png"
    Image.fromarray(photo).save(image)
    plain = Content(Shown(image=image), tmp_path / "cache")
    assert (plain.state()["memory"], plain.find("memory.svg")) == (0, None)
    of_record = Content(Shown(image=image, record=lambda: {"record": {"measured": MEASURED}}), tmp_path / "cache")
    assert of_record.state()["memory"] == 1
    assert b"denoise 0" in found(of_record, "memory.svg")
    logged = Content(Shown(image=image, memory_log=log), tmp_path / "cache")
    assert logged.find("memory.svg") is None
    log.write_text(json.dumps(SAMPLE) + "\n" + json.dumps({**SAMPLE, "at_seconds": 2.0}))
    assert b"polyline" in found(logged, "memory.svg")
    assert logged.state()["memory"] > 1
