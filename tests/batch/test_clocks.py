"""The date may jump: what runs out of time does so by clocks that don't, and 6 o'clock is 6 o'clock in every season."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from linfusion_cli.batch import runner
from linfusion_cli.cli.batch import _deadline
from linfusion_cli.output.checkpoint_folder import CheckpointFolder

DAY = 86400.0


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Dates:
    """datetime.datetime with a `now` of our own."""

    def __init__(self, now: float) -> None:
        import datetime

        self.stamp, self.real = now, datetime.datetime

    def now(self) -> object:
        return self.real.fromtimestamp(self.stamp)

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("start", "hours"),
    [
        ((2026, 7, 1, 23, 0, 0, 0, 0, -1), 7.0),
        ((2026, 3, 28, 23, 0, 0, 0, 0, -1), 6.0),  # an hour is left out that night
        ((2026, 10, 24, 23, 0, 0, 0, 0, -1), 8.0),  # and one comes twice
        ((2026, 7, 1, 5, 0, 0, 0, 0, -1), 1.0),
        ((2026, 7, 1, 6, 0, 0, 0, 0, -1), 24.0),
    ],
)
def test_until_is_a_time_of_day_in_every_season(
    monkeypatch: pytest.MonkeyPatch, start: tuple[int, ...], hours: float
) -> None:
    now = time.mktime(start)
    monkeypatch.setattr("linfusion_cli.cli.batch.datetime.datetime", Dates(now))
    monkeypatch.setattr(time, "time", lambda: now)
    assert _deadline("06:00", None) - runner.clock() == pytest.approx(3600 * hours, abs=5)


@pytest.mark.parametrize("jump", [-400 * DAY, -3600.0, 3600.0, 400 * DAY])
def test_no_deadline_moves_with_the_date(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, jump: float) -> None:
    """Neither a deadline nor the next checkpoint moves when somebody sets the clock."""
    deadline = _deadline(None, 60.0)
    folder = CheckpointFolder(
        tmp_path / "x.png", "a" * 64, "id", 1000.0, most_bytes=1 << 20, urgent=lambda: False, tell=print
    )
    with folder as keeper:
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        assert 3500 < deadline - runner.clock() <= 3600
        assert not keeper.due(finished=False)
        steady = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: steady() + 1001)
        assert keeper.due(finished=False)
