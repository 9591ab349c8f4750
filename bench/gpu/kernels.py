"""Where the time of one SDXL pass goes: kernels by time, waits of the host, and calls of operators."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from bench.gpu.case import Case, Setting, attempt
from bench.gpu.dispatches import Dispatches
from bench.gpu.models import RandomModels, full_models, tiny_models
from bench.gpu.shapes import Image, plan_of, request_of
from bench.gpu.timing import finish
from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.streaming.banded_unet import BandedUNet, PlainUNet
from linfusion_cli.geometry import Size
from linfusion_cli.planning.planner import Plan

TOP = 12
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "hipStreamSynchronize")
IMAGE = Image("sdxl", "4096x4096", 4, "128x128")


def cases(setting: Setting) -> Iterator[Case]:
    make = tiny_models if setting.quick else full_models
    scratch = [setting.scratch] if setting.quick else []
    models, presets = make("sdxl", setting.device, *scratch)  # type: ignore[operator]
    plan = plan_of(request_of(IMAGE, setting, presets["4k"]), setting.device)
    unet, linfusion, _ = models.networks(plan.dtype)
    linfusion.mount(unet)
    unet.to(setting.device)
    for index in (0, len(plan.stages) - 1):
        for rows in dict.fromkeys((0, plan.stages[index].band_latent)):
            if index and not rows:
                continue  # the whole image at once, at the base size alone
            yield from _passed(setting, models, plan, index, rows, unet)
    assert isinstance(linfusion, LinFusion)


def _passed(setting: Setting, models: RandomModels, plan: Plan, index: int, rows: int, unet: Any) -> Iterator[Case]:
    size = plan.stages[index].canvas.latent()
    how = f"bands of {rows}" if rows else "whole"
    name = f"one pass at {plan.stages[index].canvas}, {how}, {plan.dtype}"
    run = partial(_one_pass, models, plan, size, rows, unet, setting)
    yield attempt(name, partial(_dispatched, name, run))
    yield from _profiled(name, run, setting)


@torch.inference_mode()
def _one_pass(models: RandomModels, plan: Plan, size: Size, rows: int, unet: Any, setting: Setting) -> None:
    device = torch.device(setting.device)
    given = models.conditioning(plan)
    sample = torch.randn(1, 4, size.height, size.width, dtype=given.embeddings.dtype, device=device)
    sizes = torch.tensor([[size.height * 8, size.width * 8, 0, 0, size.height * 8, size.width * 8]], device=device)
    added = {"text_embeds": given.pooled, "time_ids": sizes.to(sample)}
    arguments = (sample, torch.tensor(500, device=device), given.embeddings, added)
    if rows:
        BandedUNet(unet, rows, ActivationStore.unlimited(device), Weights(device, resident=True))(*arguments)
    else:
        PlainUNet(unet)(*arguments)
    finish(setting)


def _dispatched(name: str, run: Any) -> Case:
    with Dispatches() as counted:
        run()
    most = ", ".join(f"{call.removeprefix('aten.')} {times}" for call, times in counted.calls.most_common(8))
    return Case(
        f"{name}: calls",
        None,
        {
            "calls": counted.total,
            "views": counted.views,
            "waits": counted.waits,
            "gb": round((counted.read_bytes + counted.written_bytes) / 1e9, 2),
            "most": most,
        },
    )


def _profiled(name: str, run: Any, setting: Setting) -> Iterator[Case]:
    """A warm pass under torch's profiler."""
    run()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if setting.kind == "cuda" else [])]
    with profile(activities=activities) as seen:
        run()
    rows = seen.key_averages()
    on_device = setting.kind == "cuda"

    def microseconds(row: Any) -> float:
        return float(row.self_device_time_total if on_device else row.self_cpu_time_total)

    kernels = [row for row in rows if not on_device or row.self_device_time_total > 0]
    kernels = [row for row in kernels if not on_device or str(row.device_type).endswith("CUDA")]
    total = sum(map(microseconds, kernels))
    waits = {row.key: row.count for row in rows if row.key in WAITS}
    summed = {"kernels": sum(row.count for row in kernels), "milliseconds": round(total / 1e3, 2)}
    yield Case(f"{name}: profile", None, {**summed, "waits": sum(waits.values()), **waits})
    for row in sorted(kernels, key=microseconds, reverse=True)[:TOP]:
        share = microseconds(row) / max(total, 1e-9)
        found = {"milliseconds": round(microseconds(row) / 1e3, 3), "times": row.count, "share": round(share, 3)}
        yield Case(f"{name}: {row.key:.90}", None, found)
