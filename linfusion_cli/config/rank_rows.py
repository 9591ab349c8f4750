"""The options of the processes that make one image together. config/rank_options.py checks what was given."""

from __future__ import annotations

from linfusion_cli.config.option_row import COMMANDS, PLAN, OptionRow
from linfusion_cli.config.value_range import Range

MOST_RANKS = 1024
MOST_SHARE = 1000
RANK_ROWS = (
    OptionRow(
        key="ranks",
        kind=int,
        metavar="N",
        help="Make each image with N processes on this machine, each on a GPU if it has any.",
        range=Range(1, MOST_RANKS),
        default_from="1",
        commands=COMMANDS - {PLAN},  # which has one of its own, for devices that need not be here
        decides_pixels=False,
        in_batch_rows=False,
    ),
    OptionRow(
        key="devices",
        kind=str,
        metavar="NAME,NAME",
        help="Make each image with a process on each of these devices: cuda:0,cuda:1 or cpu,cpu.",
        default_from="one process",
        suggestions=("cuda:0,cuda:1", "cpu,cpu"),
        decides_pixels=False,
        in_batch_rows=False,
    ),
    OptionRow(
        key="rank_shares",
        kind=str,
        metavar="A:B",
        help="The rows of the image that each process gets, as a ratio: 2:1 where the first is twice as fast.",
        default_from="equally many; by speed on devices of several kinds",
        suggestions=("1:1", "2:1"),
        decides_pixels=False,
        in_batch_rows=False,
    ),
)
