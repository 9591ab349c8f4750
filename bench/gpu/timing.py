"""How long a piece of work takes on a device, from an idle device to an idle device."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.gpu.case import Setting


def finish(setting: Setting) -> None:
    """Waits until the device has done all that it was given; a CPU has."""
    if setting.kind == "cuda":
        import torch

        torch.cuda.synchronize(setting.device)


def seconds_of(run: Callable[[], object], setting: Setting) -> float:
    """Of one run."""
    finish(setting)
    started = time.perf_counter()
    run()
    finish(setting)
    return time.perf_counter() - started
