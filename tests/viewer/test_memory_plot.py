"""The drawing of a render's memory."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.events import MemorySampled, PhaseFinished
from linfusion_cli.output.memory_log import MemoryLog
from linfusion_cli.viewer.memory_plot import (
    MOST_POINTS,
    MemoryHistory,
    PhaseSpan,
    history_of_log,
    history_of_record,
    memory_svg,
)

SPACE = "{http://www.w3.org/2000/svg}"
DENOISED = PhaseFinished(name="denoise", stage=0, seconds=4.0, peak_bytes=2_000_000_000, device_peak_bytes=0)
ON_A_CARD = PhaseFinished(name="decode", stage=0, seconds=1.0, peak_bytes=5, device_peak_bytes=9)


def test_the_log_of_a_render_is_read_and_half_a_line_is_left_out(tmp_path: Path) -> None:
    with MemoryLog(tmp_path / "log", lambda event: None) as log:
        log.add(MemorySampled(resident_bytes=7, device_bytes=0), 1.0)
        log.add(DENOISED, 5.0)
        log.add(MemorySampled(resident_bytes=7, device_bytes=3), 5.5)
        log.add(ON_A_CARD, 6.0)
    history = history_of_log((tmp_path / "log").read_text() + '{"at_seconds": 7, "ev')
    assert history.samples == ((1.0, 7), (5.5, 3))
    assert [asdict(phase) for phase in history.phases] == [
        {"name": "denoise", "stage": 0, "start_seconds": 1.0, "end_seconds": 5.0, "peak_bytes": 2_000_000_000},
        {"name": "decode", "stage": 0, "start_seconds": 5.0, "end_seconds": 6.0, "peak_bytes": 9},
    ]


NOT_A_TIME = '{"at_seconds": NaN, "event": "MemorySampled", "resident_bytes": 1, "device_bytes": 0}'


@pytest.mark.parametrize("text", ["", "hello", "[1, 2]", NOT_A_TIME, '{"at_seconds": "x"}', "null\n{}"])
def test_a_log_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no event"):
        history_of_log(text)


def test_a_record_s_phases_follow_each_other() -> None:
    measured = {
        "load -1": {"seconds": 1.0, "peak_bytes": 5},
        "denoise 0": {"seconds": 2.5, "peak_bytes": 7},
        "<script>": {"seconds": 1, "peak_bytes": 1},
        "decode 0": "no table",
    }
    history = history_of_record({"measured": measured})
    assert [(each.name, each.start_seconds, each.end_seconds) for each in history.phases] == [
        ("load", 0.0, 1.0),
        ("denoise", 1.0, 3.5),
    ]
    for record in ({}, {"measured": []}, {"measured": {"decode 0": {"seconds": "x", "peak_bytes": 1}}}):
        with pytest.raises(ValueError, match="no measured phases"):
            history_of_record(record)


spans = st.builds(
    lambda name, stage, times, peak: PhaseSpan(name, stage, min(times), max(times), peak),
    st.sampled_from(["load", "denoise", "encode", "something"]),
    st.integers(-1, 9),
    st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)),
    st.integers(0, 10**12),
)


@given(
    phases=st.lists(spans, max_size=5),
    samples=st.lists(st.tuples(st.floats(0, 1e5), st.integers(0, 10**12)), max_size=5),
    title=st.text('ab <&>"é', max_size=9),
)
def test_any_history_is_drawn_inside_of_the_drawing(
    phases: list[PhaseSpan], samples: list[tuple[float, int]], title: str
) -> None:
    svg = ElementTree.fromstring(memory_svg(MemoryHistory(tuple(phases), tuple(samples)), title + "<&"))
    width, height = (float(side) for side in svg.attrib["viewBox"].split()[2:])
    for shape in svg.iter(f"{SPACE}rect"):
        assert 0 <= float(shape.get("x", "0")) <= width + 1
        assert 0 <= float(shape.get("y", "0")) <= height
    assert next(svg.iter(f"{SPACE}text")).text == title + "<&"


def test_a_block_is_as_high_as_its_peak_and_a_long_log_is_thinned() -> None:
    phases = (PhaseSpan("denoise", 0, 0.0, 5.0, 10**9), PhaseSpan("decode", 1, 5.0, 10.0, 2 * 10**9))
    samples = tuple((number / 10**4, 10**9) for number in range(10**5))
    svg = ElementTree.fromstring(memory_svg(MemoryHistory(phases, samples), "x"))
    blocks = [rect for rect in svg.iter(f"{SPACE}rect") if rect.find(f"{SPACE}title") is not None]
    heights = [float(block.attrib["height"]) for block in blocks]
    assert heights[1] == pytest.approx(2 * heights[0], rel=0.01)
    told = [block.findtext(f"{SPACE}title") for block in blocks]
    assert told == ["denoise 0: 5.0 s, 1.00 GB", "decode 1: 5.0 s, 2.00 GB"]
    (line,) = svg.iter(f"{SPACE}polyline")
    assert len(line.attrib["points"].split()) <= MOST_POINTS
    labels = {text.text for text in svg.iter(f"{SPACE}text")}
    assert {"0 GB", "1 GB", "2 GB", "0 s", "10 s"} <= labels
