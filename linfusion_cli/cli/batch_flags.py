"""The flags of `linfusion batch` that no option of an image is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FilesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...",
        help="Lists of prompts: .txt, .csv, .tsv, .json, .jsonl, .toml, .yaml; - reads standard input.",
    ),
]
OutputFlag = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FOLDER", help="Default: a folder named like the first FILE."),
]
NameFlag = Annotated[
    str,
    typer.Option(
        metavar="TEMPLATE",
        help="The files' names, from {index} {slug} {seed} {preset} {size} {width} {height} {id}.",
    ),
]
SeedsFlag = Annotated[
    str | None,
    typer.Option(
        "--seeds", "--seed", metavar="N|A..B", help="Each prompt with each of these seeds: 7, 1..8, 1,5,20..29."
    ),
]
WildcardsFlag = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Replace __name__ in prompts by a line of FOLDER/name.txt; the seed decides."),
]
KeepGoingFlag = Annotated[bool, typer.Option("--keep-going", "-k", help="Go on with the others if an image fails.")]
RetryFlag = Annotated[
    int,
    typer.Option(metavar="N", min=0, max=100, help="Try a failed image again so often, unless that can't help."),
]
UntilFlag = Annotated[
    str | None,
    typer.Option(metavar="HH:MM", help="Stop at this time; the image in hand is kept and gone on with next time."),
]
MaxMinutesFlag = Annotated[float | None, typer.Option(metavar="N", min=0, help="Stop after so long, in the same way.")]
ShardFlag = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Do the I-th of N parts: several machines share one list and one folder."),
]
VerifyFlag = Annotated[
    bool,
    typer.Option("--verify", help="Read every finished image whole before it is skipped; with --status: only tell."),
]
StatusFlag = Annotated[bool, typer.Option("--status", help="Show what is done, missing, damaged and failed, and stop.")]
DryRunFlag = Annotated[bool, typer.Option("--dry-run", help="Check the lists, show what would be made, and stop.")]
