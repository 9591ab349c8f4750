"""The whole program with a stand-in for the engine: images in milliseconds, equal pixels for equal jobs, faults.

    python tests/stand_in.py cli batch prompts.txt ...

Everything but the engine is real: command line, process tree, locks, journal, checkpoints, PNG files. A prompt may ask
for a fault, which happens once per folder in STAND_IN_FAULTS: "FAULT:sigkill", "FAULT:sigbus", "FAULT:sigstop",
"FAULT:oom", "FAULT:enospc", "FAULT:cuda", "FAULT:parent"; "FAULT:always" happens every time. STAND_IN_STEP is the
duration of a step, and of the rows, in seconds.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1]))

STEPS = 6
STEP_SECONDS = float(os.environ.get("STAND_IN_STEP", "0.01"))


def images(plan: Any, notify: Any, keeper: Any, model_cache: Any, ranks: Any = None) -> Iterator[Any]:
    """As engine.pipeline.images: stages of steps that each depend on the last, checkpoints after them, then rows."""
    import numpy as np

    from linfusion_cli.config.job_hash import job_hash
    from linfusion_cli.events import Note, PhaseFinished, PhaseStarted, PreviewMade, Progressed

    if model_cache is not None:
        model_cache.loads += 1
    key, final = job_hash(plan.job), plan.stages[-1]
    done, state = 0, hashlib.sha256(key.encode()).digest()
    if (kept := keeper.find("step")) and hashlib.sha256(kept[:-32]).digest() == kept[-32:]:
        done, state = kept[0], kept[1:33]
        notify(Note(text=f"going on after step {done}"))
    notify(PhaseStarted(name="denoise", stage=0, total=STEPS, unit="steps", done=done))
    for step in range(done, STEPS):
        strike(plan.job.prompt, step)
        time.sleep(STEP_SECONDS)
        state = hashlib.sha256(state + bytes([step])).digest()
        if keeper.due(finished=False):
            body = bytes([step + 1]) + state
            keeper.keep("step", body + hashlib.sha256(body).digest())
        if plan.preview is not None:
            notify(PreviewMade(stage=0, done=step + 1, total=STEPS, width=1, height=1, rgb=state[:3]))
        notify(Progressed(done=step + 1))
    notify(PhaseFinished(name="denoise", stage=0, seconds=0.0, peak_bytes=1, device_peak_bytes=0))
    notify(PhaseStarted(name="decode", stage=0, total=final.size.height, unit="rows"))
    random = np.random.default_rng(int.from_bytes(state[:8], "little"))
    pixels = random.integers(0, 256, (final.size.height, final.size.width, 3), dtype=np.uint8)
    yield types.SimpleNamespace(stage=final, final=True, rows=rows_of(pixels))
    strike_late(plan.job)


def rows_of(pixels: Any) -> Iterator[Any]:
    """The image in four bands, slowly, so that there is a moment after the last step."""
    for band in range(4):
        time.sleep(STEP_SECONDS / 4)
        yield pixels[band * len(pixels) // 4 : (band + 1) * len(pixels) // 4]


def strike(prompt: str, step: int) -> None:
    """The fault that a prompt asks for, at its step 2, once."""
    match = re.search(r"FAULT:(\w+)", prompt)
    if not match or step != 2:
        return
    marker = Path(os.environ["STAND_IN_FAULTS"]) / hashlib.sha256(prompt.encode()).hexdigest()
    if marker.exists() and "FAULT:always" not in prompt:
        return
    marker.touch()
    match match[1]:
        case "sigkill" | "sigbus" | "sigstop" | "sigsegv":
            os.kill(os.getpid(), getattr(signal, match[1].upper()))
        case "parent":  # as if the whole machine died
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        case "oom":
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"
            )
        case "enospc":  # from now on the disk is full for every process
            os.posix_fallocate = no_room
        case _:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


def strike_late(job: Any) -> None:
    """What "LATE:..." in a prompt asks for once the image has its name: "sigkill" once, or "remove" of .linfusion."""
    if "LATE:remove" in job.prompt:
        shutil.rmtree(job.output.parent / ".linfusion")
    if "LATE:move" in job.prompt:
        job.output.parent.rename(job.output.parent.with_name("moved"))
    strike(job.prompt.replace("LATE:sigkill", "FAULT:sigkill"), 2)


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class ModelCache:
    """Counts how often a model was loaded."""

    def __init__(self) -> None:
        self.loads = 0


def install() -> None:
    """Puts the stand-ins where the engine is imported from."""
    stand_ins: dict[str, dict[str, object]] = {
        "pipeline": {"images": images},
        "memory.meter": {"process_peak_bytes": lambda: 1},
        "components.model_cache": {"ModelCache": ModelCache},
    }
    for name, parts in stand_ins.items():
        module = types.ModuleType(f"linfusion_cli.engine.{name}")
        module.__dict__.update(parts)
        sys.modules[module.__name__] = module


def main(words: list[str]) -> int:
    if "faketime" in os.environ.get(
        "LD_PRELOAD", ""
    ):  # which (0.9.10) answers EINVAL to the call that Python sleeps by
        time.sleep = lambda seconds: threading.Event().wait(seconds) and None
    if words[0] == "child":
        install()
        from linfusion_cli.batch.worker import main as child

        return child()
    from linfusion_cli.batch.worker_process import WorkerProcess
    from linfusion_cli.cli.app import main as cli

    WorkerProcess.command = (sys.executable, "-P", str(HERE), "child")
    from linfusion_cli.batch import runner

    runner.HANG_SECONDS = float(os.environ.get("STAND_IN_HANG_SECONDS", "60"))
    if words[1] == "generate":
        install()
    return cli(words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
