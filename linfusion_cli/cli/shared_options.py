"""Choices that more than one command offers."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

JsonFlag = Annotated[bool, typer.Option("--json", help="Tell programs what happens: JSON lines on stdout.")]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing if all goes well.")]


class Precision(StrEnum):
    """Numbers of a training's forward pass; weights and optimizer stay in float32."""

    no = "no"
    bf16 = "bf16"
    fp16 = "fp16"
