"""The bar of a terminal fits its width, and its clock runs while nothing can be counted."""

from __future__ import annotations

import io

import pytest
from clock import Clock

from linfusion_cli.cli.live_bar import live_bar


@pytest.mark.parametrize("columns", [20, 40, 60, 120])
def test_the_line_fits(columns: int) -> None:
    stream = io.StringIO()
    bar = live_bar(stream, "what", "bar", "clock", "counts", "left")
    bar.console.width = columns
    bar.add_task("", total=8, completed=3, what="stage 2 denoise", counts="3/8 steps", left="3 min left", since=None)
    bar.console.print(bar.get_renderable())
    with bar.console.capture() as shown:
        bar.console.print(bar.get_renderable())
    (line,) = shown.get().splitlines()
    assert len(_plain(line)) <= columns - len("^C"), "what the terminal writes on Ctrl-C breaks no line"
    if columns >= 60:
        assert "stage 2 denoise" in line
        assert "3 min left" in line


def test_the_last_column_is_cut_and_no_other() -> None:
    bar = live_bar(io.StringIO(), "count", "bar", "left", "doing")
    bar.console.width = 60
    name = "a-lake-at-dawn-with-a-long-name-5558951345.png, stage 2"
    bar.add_task("", total=9, completed=3, count="3/9", left="12 min left", doing=name, since=None)
    with bar.console.capture() as shown:
        bar.console.print(bar.get_renderable())
    (line,) = shown.get().splitlines()
    assert _plain(line).startswith("3/9 ━")
    assert " 12 min left a-lake-at-dawn" in _plain(line)
    assert _plain(line).rstrip().endswith("…")
    assert len(_plain(line)) <= 60


def test_the_clock_runs_until_something_is_counted(clock: Clock) -> None:
    bar = live_bar(io.StringIO(), "clock", now=clock)
    task = bar.add_task("", total=None, since=clock())
    clock.seconds += 75
    assert str(bar.columns[0](bar.tasks[0])) == "1 min 15 s"
    bar.update(task, since=None)
    assert str(bar.columns[0](bar.tasks[0])) == ""


def _plain(line: str) -> str:
    import re

    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line)
