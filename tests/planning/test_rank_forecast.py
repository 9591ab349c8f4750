"""What an image sends and takes on ranks: bounds that hold for any plan, guidance in halves, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import UsageError
from linfusion_cli.planning.planner import Plan, architecture_of, make_plan
from linfusion_cli.planning.rank_forecast import RankForecast, forecast
from linfusion_cli.system.device import find_machine

FAST, SLOW = 1e15, 1e6


def planned(**options: object) -> Plan:
    request = Request(prompt="a lake", output=Path("x.png"), device="cpu", seed=1, **options)  # type: ignore[arg-type]
    return make_plan(resolve(request), find_machine("cpu"))


def by_ranks(plan: Plan, ranks: int, link: float | None) -> RankForecast:
    return forecast(plan, architecture_of(plan.job), ranks, link)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3, 4, 7])
def test_ranks_are_at_most_so_many_times_as_fast_and_a_slow_link_makes_them_slower(ranks: int) -> None:
    plan = planned(size="4096x4096")
    fast, slow = by_ranks(plan, ranks, FAST), by_ranks(plan, ranks, SLOW)
    assert fast.speed_up is not None
    assert slow.speed_up is not None
    assert 0.6 * ranks < fast.speed_up <= ranks
    assert slow.speed_up < fast.speed_up
    assert slow.sent_bytes == fast.sent_bytes == by_ranks(plan, ranks, None).sent_bytes > 0


def test_guidance_in_halves_sends_less_than_rows() -> None:
    """Two ranks with guidance at every step exchange predictions alone; three split the rows of every layer."""
    plan = planned(size="2048x2048", preset="sd15-4k")
    assert plan.stages[-1].guided_steps == plan.stages[-1].steps
    assert by_ranks(plan, 2, None).sent_bytes < by_ranks(plan, 3, None).sent_bytes / 20


def test_more_ranks_than_rows_are_refused_and_the_nearest_is_not() -> None:
    plan = planned(size="512x64")
    with pytest.raises(UsageError, match="ranks 100: some would have no rows of 512x64") as caught:
        by_ranks(plan, 100, None)
    assert by_ranks(plan, int(str(caught.value).rpartition(" ")[2]), None).sent_bytes > 0


def test_the_rows_of_each_rank_are_its_share() -> None:
    equal, uneven = (by_ranks(planned_by(2, rank_shares=shares, size="2048x2048"), 2, FAST) for shares in (None, "3:1"))
    assert sum(equal.rows_px) == sum(uneven.rows_px) == 2048
    assert equal.rows_px[0] == pytest.approx(1024, abs=64)
    assert uneven.rows_px[0] == pytest.approx(1536, abs=64)
    assert equal.speed_up is not None
    assert uneven.speed_up is not None
    assert uneven.speed_up < 1.4 < equal.speed_up, "the second one is taken for a third as fast"


def planned_by(ranks: int, **options: object) -> Plan:
    asked = Request(prompt="a lake", output=Path("x.png"), device="cpu", seed=1, ranks=ranks)
    asked = replace(asked, **options)  # type: ignore[arg-type]
    return make_plan(resolve(asked), find_machine("cpu"), ranks=ranks)


def test_the_busiest_rank_needs_more_memory() -> None:
    equal, uneven = (planned_by(2, rank_shares=shares, size="2048x2048", max_memory="2GB") for shares in (None, "9:1"))
    assert uneven.peak_bytes > equal.peak_bytes
    with pytest.raises(UsageError, match=r"rank_shares 2:1:1: 3 shares for 2 ranks\. Nearest: 2:1"):
        planned_by(2, rank_shares="2:1:1")
