"""Devices of ranks: what is accepted, and that the nearest one of every refusal is accepted."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.cli.spelling import told
from linfusion_cli.config.rank_options import RankOptions, checked_shares
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import UsageError


def test_what_is_given() -> None:
    assert RankOptions.of(None, None) == RankOptions(ranks=1)
    assert RankOptions.of(3, None) == RankOptions(ranks=3)
    assert RankOptions.of(None, "cuda:0, cuda:1") == RankOptions(ranks=2, devices=("cuda:0", "cuda:1"))
    assert RankOptions.of(2, "cpu,cpu", "cpu") == RankOptions(ranks=2, devices=("cpu", "cpu"))


@pytest.mark.parametrize(
    ("ranks", "devices", "device", "message"),
    [
        (None, "cuda:0,gpu1", "auto", '--devices "cuda:0,gpu1": "gpu1" is no device of a process'),
        (None, "cpu:0,cpu:1", "auto", "Nearest: cpu,cpu"),
        (None, "mps,mps", "auto", "Nearest: cuda:0,cuda:1"),
        (None, "", "auto", '"" is no device of a process'),
        (None, "cuda:0", "auto", 'one device needs one process. Give --device cuda:0'),
        (None, "cuda:0,cuda:0", "auto", "cuda:0 is named 2 times, and a card takes one process. "
            "Nearest: --device cuda:0"),
        (None, "cuda:0,cuda:1,cuda:0", "auto", "Nearest: cuda:0,cuda:1"),
        (None, "cuda:0,cpu", "auto", "cards and a CPU can't share an image. Nearest: --device cuda:0"),
        (3, "cpu,cpu", "auto", '"cpu,cpu": 2 devices, and --ranks 3. Leave it out, or give --ranks 2'),
        (1, "cpu,cpu", "auto", "2 devices, and --ranks 1"),
        (None, "cuda:0,cuda:1", "cpu", '"cuda:0,cuda:1" beside --device cpu: give one of them'),
        (0, None, "auto", "--ranks 0: write a whole number from 1 to 1024. Nearest: 1"),
        (2000, None, "auto", "Nearest: 1024"),
    ],
)  # fmt: skip
def test_what_can_not_be_meant(ranks: int | None, devices: str | None, device: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        RankOptions.of(ranks, devices, device)
    text = told(caught.value.message)
    assert message in text
    assert text.startswith("--devices" if devices is not None else "--ranks")


@given(st.lists(st.sampled_from(["cpu", "cuda:0", "cuda:1", "cuda:12", "cuda", "gpu", ""]), max_size=5).map(",".join))
def test_the_nearest_devices_are_accepted(text: str) -> None:
    try:
        RankOptions.of(None, text)
    except UsageError as error:
        if nearest := re.search(r"Nearest: (\S+)$", told(error.message)):
            RankOptions.of(None, nearest[1])


def test_a_job_is_that_of_its_first_device() -> None:
    def job(**options: str) -> object:
        made = resolve(Request(prompt="a lake", output=Path("x.png"), **options))  # type: ignore[arg-type]
        return made.device, made.rank_options

    assert job() == ("auto", RankOptions())
    assert job(devices="cuda:1,cuda:0") == ("cuda:1", RankOptions(ranks=2, devices=("cuda:1", "cuda:0")))


@pytest.mark.parametrize("text", ["", "2", "2:0", "2:-1", "1:1001", "2:x", "0.5:0.5", "1:2:", "auto", "99999999999:1"])
def test_shares_are_whole_numbers_and_the_nearest_is_accepted(text: str) -> None:
    with pytest.raises(UsageError, match=r"rank_shares .*Nearest: 2:1") as caught:
        RankOptions.of(2, None, shares=text)
    assert RankOptions.of(2, None, shares=str(caught.value).rpartition(" ")[2]).shares == (2, 1)


def test_there_is_a_share_for_each_rank() -> None:
    checked_shares((), 7)
    checked_shares((3, 1), 2)
    for shares, ranks, message in (
        ((3, 1), 3, "3:1: 2 shares for 3 ranks. Nearest: 3:1:1"),
        ((3, 1, 1), 2, "Nearest: 3:1"),
        ((3, 1), 1, "3:1: 2 shares for 1 rank. Give --ranks 2 as well"),
    ):
        with pytest.raises(UsageError) as caught:
            checked_shares(shares, ranks)
        assert message in told(caught.value.message)
