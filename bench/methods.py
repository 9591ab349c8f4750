"""Measures what the exact methods cost against the plain ones, and prints tables for docs/how-it-works.md.

    python bench/methods.py [--only banding|keeps|sd15]

banding: the built-in model at 2048x2048, the UNet in bands against the whole image at once, in turn, medians of five
keeps:   decoding 2048x2048 with stored activations, and with activations that are computed again
sd15:    one step of SD-v1.5 with random weights in bfloat16 at 4096x2048, within 6 GB

Every measurement is a process of its own; memory is the operating system's peak of it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

REPEATS = 5
SIDE_PX, BAND_PX = 2048, 64
SD15_BUDGET_BYTES = 6e9
KEEPS = (
    ("all",) * 4,
    ("sums", "all", "all", "all"),
    ("sums",) * 4,
    ("nothing", "sums", "sums", "sums"),
    ("nothing", "nothing", "sums", "sums"),
)


@dataclass(frozen=True)
class Measured:
    """One process: its peak, and what it printed."""

    peak_bytes: int
    told: dict[str, float]


def child(*words: str) -> Measured:
    """Runs one of CHILDREN in a process of its own."""
    process = subprocess.Popen([sys.executable, __file__, "--child", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(words)}: exit code {process.returncode}")
    return Measured(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), json.loads(out.splitlines()[-1]))


def banding() -> None:
    """The same image both ways; only the denoising differs, so only it is timed."""
    print("| UNet at 2048x2048 | whole command | denoising | peak memory |\n|---|---|---|---|")
    runs: dict[str, list[Measured]] = {"whole": [], "bands": []}
    for _ in range(REPEATS):
        for way, measured in runs.items():
            measured.append(child("banding", way))
    for way, measured in runs.items():
        whole, denoising = (
            statistics.median(one.told[name] for one in measured) for name in ("seconds", "denoise_seconds")
        )
        print(
            f"| {way} | {whole:.1f} s | {denoising:.1f} s | {max(one.peak_bytes for one in measured) / 1e9:.2f} GB |",
            flush=True,
        )


def banding_child(way: str) -> dict[str, float]:
    from linfusion_cli.config.request import Request
    from linfusion_cli.config.resolve import resolve
    from linfusion_cli.events import Event, PhaseFinished
    from linfusion_cli.planning.planner import make_plan
    from linfusion_cli.render import render
    from linfusion_cli.system.device import find_machine

    seconds: dict[str, float] = {"denoise_seconds": 0.0}

    def see(event: Event) -> None:
        if isinstance(event, PhaseFinished) and event.name == "denoise":
            seconds["denoise_seconds"] += event.seconds

    with tempfile.TemporaryDirectory() as folder:
        prompt = "purple mountains at dusk, full moon, by a lake"
        job = resolve(
            Request(
                prompt=prompt,
                preset="landscape",
                size=f"{SIDE_PX}x{SIDE_PX}",
                seed=12,
                output=Path(folder) / "image.png",
            )
        )
        plan = make_plan(job, find_machine("cpu"))
        if way == "whole":
            plan = replace(
                plan, stages=tuple(replace(stage, bands=replace(stage.bands, unet_latent=0)) for stage in plan.stages)
            )
        return {"seconds": render(plan, see).seconds, **seconds}


def keeps() -> None:
    """The cost of computing activations again, against storing them."""
    print("\n| waits, full resolution first | multiply-adds | time | peak memory |\n|---|---|---|---|")
    for keep in KEEPS:
        measured = child("keeps", ",".join(keep))
        work, seconds = f"{measured.told['macs'] / 1e12:.2f} T", f"{measured.told['seconds']:.1f} s"
        print(f"| {', '.join(keep)} | {work} | {seconds} | {measured.peak_bytes / 1e9:.2f} GB |", flush=True)
    exact = child("exact")
    print(
        f"\nThe decode in bands against the plain one at {SIDE_PX}x{SIDE_PX}: "
        f"at most {exact.told['levels']:.4f} levels of 255 apart"
    )


def autoencoder(keep: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """The built-in model's autoencoder, its sweeper, and latents as smooth as an image's."""
    import torch
    from diffusers import AutoencoderKL

    from linfusion_cli.engine.memory.activation_store import ActivationStore
    from linfusion_cli.engine.streaming.banded_vae import Sweeper
    from linfusion_cli.models import builtin_folder

    folder = builtin_folder("builtin:landscape")
    assert folder is not None
    vae = (
        AutoencoderKL.from_pretrained(folder / "vae", dtype=torch.float32).eval().to(memory_format=torch.channels_last)
    )
    sweeper = Sweeper(vae, BAND_PX, keep, 10**6, ActivationStore.unlimited(torch.device("cpu")), lambda _: None)
    torch.manual_seed(0)
    return (
        vae,
        sweeper,
        torch.nn.functional.interpolate(
            torch.randn(1, 4, SIDE_PX // 64, SIDE_PX // 64), scale_factor=8.0, mode="bilinear"
        ),
    )


def keeps_child(names: str) -> dict[str, float]:
    from linfusion_cli.geometry import Size
    from linfusion_cli.models import builtin_folder
    from linfusion_cli.planning.memory_budget import CostCounter, StoreBudget
    from linfusion_cli.planning.model_shapes import read_architecture
    from linfusion_cli.planning.vae_cost import vae_cost
    from linfusion_cli.weights.weight_file import WeightFile

    folder, keep = builtin_folder("builtin:landscape"), tuple(names.split(","))
    assert folder is not None
    cost = vae_cost(
        read_architecture(WeightFile.resolve((str(folder),), "", "model")).vae,
        Size(SIDE_PX, SIDE_PX),
        BAND_PX,
        keep,
        10**6,
        CostCounter(StoreBudget.unlimited(), 4),
        encode=False,
    )  # type: ignore[arg-type]
    _, sweeper, latents = autoencoder(keep)
    started = time.perf_counter()
    for _ in sweeper.decode(latents):
        pass
    return {"seconds": time.perf_counter() - started, "macs": cost.macs}


def exact_child() -> dict[str, float]:
    import torch

    vae, sweeper, latents = autoencoder(KEEPS[1])
    with torch.inference_mode():
        plain = vae.decode(latents).sample
    return {
        "levels": max(
            float((rows - plain[:, :, band.rows]).abs().max()) * 127.5 for band, rows in sweeper.decode(latents)
        )
    }


def sd15() -> None:
    """The plan's bands and store for the budget, as `generate --max-memory 6GB` would use them."""
    measured = child("sd15")
    verdict = "within" if measured.peak_bytes <= SD15_BUDGET_BYTES else "over"
    peak, budget = f"{measured.peak_bytes / 1e9:.2f} GB", f"{SD15_BUDGET_BYTES / 1e9:.0f} GB"
    print(
        "\nSD-v1.5, random weights, bfloat16, one step at 4096x2048: "
        f"{measured.told['seconds']:.0f} s, {peak}: {verdict} {budget}"
    )


def sd15_child() -> dict[str, float]:
    import torch
    from diffusers import UNet2DConditionModel

    from linfusion_cli.config.request import Request
    from linfusion_cli.config.resolve import resolve
    from linfusion_cli.engine.attention.linfusion import LinFusion
    from linfusion_cli.engine.memory.activation_store import ActivationStore
    from linfusion_cli.engine.memory.weight_offload import Weights
    from linfusion_cli.engine.streaming.banded_unet import BandedUNet
    from linfusion_cli.models import family_folder
    from linfusion_cli.planning.planner import make_plan
    from linfusion_cli.system.device import find_machine

    job = resolve(
        Request(
            prompt="x",
            preset="sd15-4k",
            size="4096x2048",
            seed=1,
            output=Path("x.png"),
            max_memory="6GB",
            dtype="bfloat16",
            device="cpu",
        )
    )
    plan = make_plan(job, find_machine("cpu"))
    cpu = torch.device("cpu")
    torch.set_default_dtype(torch.bfloat16)  # so that the random weights never exist in float32
    unet = UNet2DConditionModel.from_config(
        json.loads((family_folder("sd15") / "unet" / "config.json").read_text())
    ).eval()
    LinFusion.like(unet).mount(unet)
    torch.set_default_dtype(torch.float32)
    stage = plan.stages[-1]
    latent = stage.canvas.latent()
    banded = BandedUNet(
        unet.to(memory_format=torch.channels_last),
        stage.bands.unet_latent,
        ActivationStore(cpu, plan.store_budget),
        Weights(cpu, resident=True),
    )
    sample, text = torch.randn(1, 4, latent.height, latent.width).bfloat16(), torch.randn(1, 77, 768).bfloat16()
    started = time.perf_counter()
    with torch.inference_mode():
        prediction = banded(sample, torch.tensor(500), text, None)
    assert torch.isfinite(prediction).all()
    return {"seconds": time.perf_counter() - started}


CHILDREN: dict[str, Callable[..., dict[str, float]]] = {
    "banding": banding_child,
    "keeps": keeps_child,
    "exact": exact_child,
    "sd15": sd15_child,
}


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(CHILDREN[sys.argv[2]](*sys.argv[3:])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["banding", "keeps", "sd15"])
    chosen = parser.parse_args().only
    for name, measure in (("banding", banding), ("keeps", keeps), ("sd15", sd15)):
        if chosen in (None, name):
            measure()


if __name__ == "__main__":
    main()
