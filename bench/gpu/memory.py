"""Memory that runs out although it was planned: lower bands, activations that wait elsewhere, and the same image.

On a card its allocator refuses for real: the plan's own limit is set below what the plan needs. The stand-in refuses
every band of more than a few rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from bench.gpu.case import Case, Setting, attempt, first_line
from bench.gpu.parity import exact_floats, pixels
from linfusion_cli.engine.streaming.convolutions import Convolution, Convolved
from linfusion_cli.errors import ran_out_of_memory
from linfusion_cli.events import Event, Note
from linfusion_cli.geometry import Band
from linfusion_cli.system.accelerator import CUDA_RUNTIME_BYTES

MOST_LEVELS = 2  # lower bands round otherwise
FALLBACKS = ("bands are 1/", "wait elsewhere", "goes on in bands")  # words of the engine's notes
SHARES = (0.8, 0.6, 0.45, 0.3)  # of what the first image reserved


def cases(setting: Setting) -> Iterator[Case]:
    exact_floats()
    side = 128 if setting.quick else 1024
    truth = pixels(setting.device, side, setting.scratch)
    most = torch.cuda.max_memory_reserved(setting.device) if setting.kind == "cuda" else 0
    recovered = 0
    for share in SHARES:
        name = f"{share:.0%} of the memory that was used"
        case = attempt(name, partial(_squeezed, name, setting, side, truth, most, share))
        recovered += case.ok is True and case.found["fallbacks"] > 0 and case.found["outcome"] == "an image"
        yield case
    yield Case("an image although memory ran out", recovered > 0, {"times": recovered})
    yield attempt("no memory at all", partial(_refused, setting, side))
    yield attempt("afterwards", partial(_afterwards, setting, side, truth))


def _squeezed(name: str, setting: Setting, side: int, truth: Tensor, most: int, share: float) -> Case:
    """The image with less memory: the same, or an error of memory, never another image."""
    notes: list[str] = []

    def see(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(str(event.text))

    changed, limits = _limit(setting, int(most * share), rows=int(8 * share))
    told: dict[str, Any] = {"limit mb": round(most * share / 1e6), "outcome": "an image"}
    right = True
    try:
        with limits:
            found = pixels(setting.device, side, setting.scratch, changed, notify=see)
        told["levels apart at most"] = float((found.double() - truth.double()).abs().max())
        right = told["levels apart at most"] <= MOST_LEVELS
    except (MemoryError, RuntimeError) as error:
        right, told["outcome"] = ran_out_of_memory(error), first_line(error)
    fallbacks = [note for note in notes if any(word in note for word in FALLBACKS)]
    return Case(name, right, {**told, "fallbacks": len(fallbacks)})


def _refused(setting: Setting, side: int) -> Case:
    """With next to no memory the error is one of memory, not another one and not an image."""
    changed, limits = _limit(setting, 8 << 20, rows=0)
    try:
        with limits:
            pixels(setting.device, side, setting.scratch, changed)
    except (MemoryError, RuntimeError) as error:
        return Case("no memory at all", ran_out_of_memory(error), {"error": first_line(error)})
    return Case("no memory at all", False, {"error": "an image was made all the same"})


def _afterwards(setting: Setting, side: int, truth: Tensor) -> Case:
    """The process still works, and makes the first image once more."""
    same = torch.equal(pixels(setting.device, side, setting.scratch), truth)
    return Case("afterwards the same image", same, {})


def _limit(
    setting: Setting, allowed_bytes: int, rows: int
) -> tuple[Callable[[Any], Any], AbstractContextManager[object]]:
    """What changes a plan so that the card refuses more, and a context in which the stand-in refuses more rows."""
    if setting.kind == "cuda":
        return (lambda plan: replace(plan, budget_bytes=allowed_bytes + CUDA_RUNTIME_BYTES)), nullcontext()
    return (lambda plan: plan), _few_rows(rows)


@contextmanager
def _few_rows(rows: int) -> Iterator[None]:
    """Convolutions raise torch's error for bands of more rows."""

    def limited(compute: Callable[[Any, Band], Tensor]) -> Callable[[Any, Band], Tensor]:
        def of_a_field(field: Any, band: Band) -> Tensor:
            if band.height > rows:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return compute(field, band)

        return of_a_field

    with (
        mock.patch.object(Convolved, "rows", limited(Convolved.rows)),
        mock.patch.object(Convolution, "rows", limited(Convolution.rows)),
    ):
        yield
