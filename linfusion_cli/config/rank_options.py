"""The processes that make one image together: their number, their devices and their shares of its rows."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from linfusion_cli.config.rank_rows import MOST_RANKS, MOST_SHARE
from linfusion_cli.config.request_checks import checked_number
from linfusion_cli.errors import Message, Option, UsageError, option

AUTO = "auto"
EXAMPLE = "cuda:0,cuda:1"
CPUS = "cpu,cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankOptions:
    """devices: of each rank, () where `ranks` alone was given; shares: of the rows, () for equal ones."""

    ranks: int = 1
    devices: tuple[str, ...] = ()
    shares: tuple[int, ...] = ()

    @staticmethod
    def of(ranks: int | None, devices: str | None, device: str = "auto", shares: str | None = None) -> RankOptions:
        """What was given, of which None is nothing. Raises UsageError for values that don't fit together."""
        named = () if devices is None else checked_devices(devices, device)
        count = checked_number("ranks", ranks) if ranks is not None else len(named) or 1
        if named and count != len(named):
            raise UsageError(
                f'"{devices}": {len(named)} devices, and ',
                option("ranks", count),
                ". Leave it out, or give ",
                option("ranks", len(named)),
                parameter="devices",
            )
        return RankOptions(ranks=count, devices=named, shares=() if shares is None else _shares(shares))


def checked_devices(text: str, device: str) -> tuple[str, ...]:
    """The devices of "cuda:0,cuda:1" or "cpu,cpu". Raises UsageError, which names the nearest devices that fit.

    device: the one that was given for an image by one process, "auto" for none
    """
    names = tuple(name.strip() for name in text.split(","))
    if device != AUTO and set(names) != {device}:
        raise UsageError(f'"{text:.80}" beside ', option("device", device), ": give one of them", parameter="devices")
    odd = next((name for name in names if not re.fullmatch(r"cpu|cuda:\d{1,3}", name)), None)
    if odd is not None:
        what = f"each is cpu, or a card by its number. Nearest: {CPUS if 'cpu' in odd.lower() else EXAMPLE}"
        raise UsageError(f'"{text:.80}": "{odd:.20}" is no device of a process: {what}', parameter="devices")
    if len(names) == 1:
        raise UsageError(f'"{text}": one device needs one process. Give ', option("device", text), parameter="devices")
    if len(names) > MOST_RANKS:
        raise UsageError(f"{len(names)} devices: name at most {MOST_RANKS}", parameter="devices")
    cards = tuple(dict.fromkeys(name for name in names if name != "cpu"))
    if cards and "cpu" in names:
        raise UsageError(
            f'"{text:.80}": cards and a CPU can\'t share an image. ', *_nearest(cards), parameter="devices"
        )
    if cards and (twice := Counter(names).most_common(1)[0])[1] > 1:
        what = f"{twice[0]} is named {twice[1]} times, and a card takes one process"
        raise UsageError(f'"{text:.80}": {what}. ', *_nearest(cards), parameter="devices")
    return names


def _nearest(cards: tuple[str, ...]) -> tuple[str | Option, ...]:
    return (f"Nearest: {','.join(cards)}",) if len(cards) > 1 else ("Nearest: ", option("device", cards[0]))


def _shares(text: str) -> tuple[int, ...]:
    """The parts of "2:1"."""
    if not re.fullmatch(r"[1-9]\d{0,3}(:[1-9]\d{0,3})+", text) or max(map(int, text.split(":"))) > MOST_SHARE:
        allowed = f"write a whole number from 1 to {MOST_SHARE} for each rank, with : between them. Nearest: 2:1"
        raise UsageError(f'"{text:.80}": {allowed}', parameter="rank_shares")
    return tuple(map(int, text.split(":")))


def checked_shares(shares: tuple[int, ...], ranks: int) -> None:
    """Raises UsageError unless there is a share for each rank, or none at all."""
    if shares and len(shares) != ranks:
        nearest = f"Nearest: {':'.join(map(str, (*shares, *[1] * ranks)[:ranks]))}"
        advice = nearest if ranks > 1 else Message("Give ", option("ranks", len(shares)), " as well")
        given = ":".join(map(str, shares))
        count = f"{len(shares)} shares for {ranks} rank{'s' * (ranks > 1)}"
        raise UsageError(f"{given}: {count}. ", advice, parameter="rank_shares")
