"""The rows of ranks on devices of several kinds, in proportion to their speeds."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from linfusion_cli.config.rank_rows import MOST_SHARE
from linfusion_cli.system.device import RankDevice

STEPS = 2  # that the slowest device's speed is divided into: a measurement's noise must not change the rows


def shares_by_speed(devices: Sequence[RankDevice], dtype: str) -> tuple[int, ...]:
    """How many rows each rank gets in proportion to the others; () for equally many.

    Devices of one kind are equally fast, whatever was measured. Else the speeds count in halves of the slowest one's:
    the measured ones where every device was measured in this number format, the expected ones where one was not.
    """
    if len({device.kind_and_part for device in devices}) < 2:
        return ()
    measured = [device.measured_macs.get(dtype, 0.0) for device in devices]
    speeds = measured if all(measured) else [device.expected_macs[dtype] for device in devices]
    steps = [min(MOST_SHARE, max(STEPS, round(STEPS * speed / min(speeds)))) for speed in speeds]
    whole = gcd(*steps)
    return tuple(step // whole for step in steps) if len(set(steps)) > 1 else ()


def shares_notes(devices: Sequence[RankDevice], shares: tuple[int, ...]) -> tuple[str, ...]:
    """What is told of the shares that shares_by_speed() chose; nothing of equal ones."""
    named = ", ".join(device.name for device in devices)
    return (f"the ranks get rows by their speed, {':'.join(map(str, shares))}: {named:.200}",) if shares else ()
