"""Two processes that compute one prediction together, each on half of the rows: equal to one process alone.

With two cards each has its own. NCCL refuses two ranks on one card unless it is told to allow it; where it still
refuses, that is said, and the ranks are checked with gloo between two processes on the CPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import torch

from bench.gpu.case import ROOT, Case, Setting, first_line
from bench.gpu.parity import TOLERANCES, error_of, exact_floats, inputs_of, predicted, tiny_on
from linfusion_cli.engine.distributed.process_group import disconnect, join
from linfusion_cli.engine.distributed.shared_store import SharedStore
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.planning.row_split import RowSplit

SECONDS, STAND_IN_SECONDS = 60.0, 300.0  # until both have met and ended; a stand-in's machine may be busy
REFUSED = ("Duplicate GPU", "invalid usage", "NCCL WARN Duplicate")


def cases(setting: Setting) -> Iterator[Case]:
    exact_floats()
    devices = _devices(setting)
    case = _together(setting, devices)
    said = str(case.found.get("error", ""))
    if case.ok is False and devices[0] == devices[1] and any(word in said for word in REFUSED):
        yield Case(case.name, None, {"refused": said})
        case = _together(setting, ["cpu", "cpu"])
    yield case


def _devices(setting: Setting) -> list[str]:
    if setting.kind == "cpu":
        return ["cpu", "cpu"]
    count = torch.cuda.device_count()
    return ["cuda:0", "cuda:1"] if count > 1 else [setting.device] * 2


def _together(setting: Setting, devices: list[str]) -> Case:
    seconds = STAND_IN_SECONDS if setting.quick else SECONDS
    meeting = setting.scratch / f"meeting-{devices[0].partition(':')[0]}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NCCL_MULTI_RANK_GPU_ENABLE": "1", "NCCL_DEBUG": "WARN"}
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"from bench.gpu.ranks import rank; rank({rank}, {device!r}, {str(meeting)!r}, {seconds})",
            ],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, device in enumerate(devices)
    ]
    backend = "NCCL" if devices[0].startswith("cuda") else "gloo"
    name = f"two ranks, {backend}, {' and '.join(devices)}"
    try:
        told = [process.communicate(timeout=seconds)[0] for process in processes]
    except subprocess.TimeoutExpired:
        for process in processes:
            process.kill()
            process.communicate()
        return Case(name, False, {"error": f"silent for {seconds:.0f} s"})
    errors = [line for text in told for line in text.splitlines() if line.startswith("error ")]
    if errors and all(process.returncode == 0 for process in processes):
        worst = max(float(line.split()[1]) for line in errors)
        allowed = TOLERANCES[torch.float32]
        return Case(name, worst <= allowed and len(errors) == 2, {"error against one": worst, "allowed": allowed})
    lines = [line for text in told for line in text.splitlines()]
    why = next((line for line in lines if any(word in line for word in REFUSED)), lines[-1] if lines else "silent")
    return Case(name, False, {"error": why[:300]})


def rank(number: int, device: str, meeting: str, seconds: float) -> None:
    """One of the two: prints how far its prediction is from that of one process."""
    exact_floats()
    where = torch.device(device)
    try:
        meet, times = f"file://{meeting}", {"meeting_seconds": seconds, "silent_seconds": seconds}
        group = join(number, 2, device, meet, local_size=2, **times)
        setting = Setting(device=device, quick=True, scratch=ROOT)
        unet, inputs = tiny_on("sdxl", setting, torch.float32), inputs_of("sdxl", device, torch.float32)
        alone = predicted(unet, inputs, 5, 1)
        levels = len(unet.config.block_out_channels)
        split = RowSplit.of(inputs[0].shape[2], levels, 2)
        store = SharedStore(ActivationStore.unlimited(where), group, split)
        print("error", error_of(predicted(unet, inputs, 5, 1, store=store), alone), flush=True)
    except Exception as error:
        print(first_line(error), flush=True)
        sys.exit(1)
    finally:
        disconnect()
