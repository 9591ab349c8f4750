"""Which process of an image this one is, from the environment of a launcher and --ranks."""

from pathlib import Path
from typing import Any

import pytest

from linfusion_cli.cli.rank_roles import followed, launched_command, planned_for, refuse_launcher
from linfusion_cli.config.job import Job
from linfusion_cli.config.rank_options import RankOptions
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import UsageError
from linfusion_cli.render import render
from linfusion_cli.system.device import find_machine


def job(**options: Any) -> Job:
    return resolve(Request(prompt="a lake", output=Path("x.png"), device="cpu", **options))


LAUNCHED = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_process_of_its_own_leads_nobody_and_follows_nobody() -> None:
    refuse_launcher()
    assert not followed("cpu", dry_run=False)
    with planned_for(job(), dry_run=False) as (machine, count, run):
        assert (machine.device, count, run) == ("cpu", 1, render)


def test_a_command_that_makes_whole_images_is_refused_in_a_launcher(launched: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="a launcher started 2 processes, and each would make all images"):
        refuse_launcher()


def test_the_worker_of_a_batch_is_told_how_it_meets_the_others(launched: pytest.MonkeyPatch) -> None:
    launched.setattr("sys.argv", ["linfusion", "batch", "list.txt"])
    assert launched_command("cpu", RankOptions()) == '["cpu", "batch list.txt"]'
    with pytest.raises(UsageError, match="ranks 2: a launcher started 2 ranks already"):
        launched_command("cpu", RankOptions(ranks=2))
    launched.delenv("RANK")
    assert launched_command("cpu", RankOptions(ranks=2)) == ""


def test_ranks_within_ranks_are_refused(launched: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(UsageError, match="ranks 3: a launcher started 2 ranks already"),
        planned_for(job(ranks=3), dry_run=False),
    ):
        raise AssertionError("it was not refused")


def test_devices_in_ranks_are_refused(launched: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(UsageError, match="devices cpu,cpu: a launcher started 2 ranks already; leave it out"),
        planned_for(job(devices="cpu,cpu"), dry_run=False),
    ):
        raise AssertionError("it was not refused")


def test_a_dry_run_in_a_launcher_plans_a_ranks_part_and_meets_nobody(launched: pytest.MonkeyPatch) -> None:
    with planned_for(job(), dry_run=True) as (machine, count, _):
        assert count == 2
        assert machine.free_bytes == pytest.approx(find_machine("cpu").free_bytes / 2, rel=0.1)
    launched.setenv("RANK", "1")
    assert followed("cpu", dry_run=True)
