"""Measures this program's loader and its warm images against the plain diffusers pipeline, and prints two tables.

    python bench/loading.py [--runs 7] [--only load|generate]

load:     SD-v1.5 at full size with random float16 weights, made in a temporary folder (2.1 GB): from_pretrained against
          this program's loader. Both map the file and read it at the first use, so each is timed a second time until
          every weight has been read: by a sum over it, or by the copy in the layout of the convolutions
generate: the built-in model at its base size with softmax attention and full guidance, 20 steps, prompt to PNG; the
          model is loaded before the clock starts

Each run is a process of its own, in turn; times are medians. Memory is what the process's peak grows by while it loads.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROMPT = "purple mountains at dusk, full moon, by a lake"
SIDE_PX, STEPS, GUIDANCE, WARM_IMAGES = 128, 20, 4.0, 5
PRESET = """
extends = "{extends}"
[model]
repositories = ["{model}"]
linfusion = []
attention = "softmax"
base_attention = "softmax"
dtype_cpu = "{dtype}"
[sampling]
scheduler = "ddim"
steps = {steps}
guidance_scale = {guidance}
guidance_interval = [0.0, 1.0]
"""


def make_checkpoint(folder: Path, family: str = "sd15") -> None:
    """Every tensor of a family's model, random, in diffusers layout."""
    import torch
    import transformers
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import save_file

    from linfusion_cli.engine.loading.clip_tokenizer import clip_tokenizer
    from linfusion_cli.models import family_folder

    shapes = family_folder(family)
    shutil.copytree(shapes, folder, dirs_exist_ok=True)
    for tokenizer in shapes.glob("tokenizer*"):
        clip_tokenizer(tokenizer).save_pretrained(folder / tokenizer.name)

    def config(part: str) -> dict[str, Any]:
        return dict(json.loads((shapes / part / "config.json").read_text()))

    with torch.device("meta"):
        models = {
            "unet/diffusion_pytorch_model": UNet2DConditionModel.from_config(config("unet")),
            "vae/diffusion_pytorch_model": AutoencoderKL.from_config(config("vae")),
        }
        for part in (path.name for path in shapes.glob("text_encoder*")):
            settings = transformers.CLIPTextConfig.from_dict(config(part))
            models[f"{part}/model"] = getattr(transformers, config(part)["architectures"][0])(settings)
    for name, model in models.items():
        kinds = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
        save_file(
            {key: torch.empty(value.shape, dtype=torch.float16).normal_(std=0.02) for key, value in kinds.items()},
            folder / f"{name}.safetensors",
        )


def plan_of(model: str, extends: str, dtype: str, side_px: int, folder: Path) -> Any:
    """The plan of one image of the base size; `folder` holds what is written."""
    from linfusion_cli.config.request import Request
    from linfusion_cli.config.resolve import resolve
    from linfusion_cli.planning.planner import make_plan
    from linfusion_cli.system.device import find_machine

    (folder / "bench.toml").write_text(
        PRESET.format(extends=extends, model=model, dtype=dtype, steps=STEPS, guidance=GUIDANCE)
    )
    request = Request(
        prompt=PROMPT,
        preset=str(folder / "bench.toml"),
        size=f"{side_px}x{side_px}",
        seed=12,
        output=folder / "ours.png",
        overwrite=True,
    )
    return make_plan(resolve(request), find_machine("cpu"))


def plain_pipeline(location: str, dtype: Any) -> Any:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        location, dtype=dtype, safety_checker=None, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_child(way: str, model: str, folder: Path) -> dict[str, float]:
    """Loads once; the libraries are imported before."""
    from linfusion_cli.system.process_setup import own_process, quiet_libraries

    own_process()
    quiet_libraries()
    import torch
    from diffusers import StableDiffusionPipeline

    from linfusion_cli.engine.components.text_encoders import load_text_encoders
    from linfusion_cli.engine.components.unet_and_vae import load
    from linfusion_cli.engine.memory.weight_offload import Weights

    assert StableDiffusionPipeline is not None
    plan = plan_of(model, "sd15-4k", "float16", 512, folder)
    before, started = peak_bytes(), time.perf_counter()
    if way == "ours":
        text_encoders = load_text_encoders(plan)
        models = load(plan, text_encoders, lambda _: None)
        parts = [models.unet, models.vae, text_encoders.pipeline.text_encoder]
    else:
        pipeline = plain_pipeline(model, torch.float16)
        parts = [pipeline.unet, pipeline.vae, pipeline.text_encoder]
    loaded = time.perf_counter() - started
    parameters = [parameter for part in parts for parameter in part.parameters()]
    if way == "ours":
        models.move(Weights(torch.device("cpu"), resident=True))
        text_encoders.own()
    else:
        with torch.inference_mode():
            assert sum(float(parameter.sum(dtype=torch.float32)) for parameter in parameters) != 0, "nothing was loaded"
    read = time.perf_counter() - started
    weights = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    return {"seconds": loaded, "read_seconds": read, "peak_of_weights": (peak_bytes() - before) / weights}


def generate_child(way: str, folder: Path) -> dict[str, float]:
    """The median of warm images; the first one is not counted."""
    from linfusion_cli.models import builtin_folder
    from linfusion_cli.system.process_setup import own_process, quiet_libraries

    make: Callable[[], object]
    if way == "ours":
        from linfusion_cli.engine_import import make_model_cache
        from linfusion_cli.render import render

        plan = plan_of("builtin:landscape", "landscape", "float32", SIDE_PX, folder)
        model_cache = make_model_cache(plan)
        make = lambda: render(plan, lambda _: None, model_cache)  # noqa: E731
    else:
        own_process()
        quiet_libraries()
        import torch

        pipeline = plain_pipeline(str(builtin_folder("builtin:landscape")), torch.float32)
        words = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "height": SIDE_PX, "width": SIDE_PX}
        make = lambda: pipeline(PROMPT, negative_prompt="", **words).images[0].save(folder / "theirs.png")  # noqa: E731
    times = []
    for _ in range(1 + WARM_IMAGES):
        started = time.perf_counter()
        make()
        times.append(time.perf_counter() - started)
    return {"seconds": statistics.median(times[1:])}


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def alternated(runs: int, *words: str) -> dict[str, list[dict[str, float]]]:
    """Both ways in turn, each run in a process of its own; what each printed."""
    told: dict[str, list[dict[str, float]]] = {"plain diffusers": [], "ours": []}
    for run in range(runs):
        for way, results in list(told.items())[:: 1 if run % 2 else -1]:
            command = [sys.executable, __file__, "--child", words[0], "ours" if way == "ours" else "theirs", *words[1:]]
            done = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"}
            )
            if done.returncode:
                sys.exit(f"{' '.join(command)}: exit code {done.returncode}")
            results.append(json.loads(done.stdout.splitlines()[-1]))
    return told


def middle(results: list[dict[str, float]], name: str) -> float:
    return statistics.median(one[name] for one in results)


def loading(runs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="linfusion-bench-") as folder:
        make_checkpoint(Path(folder) / "model")
        told = alternated(runs, "load", str(Path(folder) / "model"), folder)
    print(f"| SD-v1.5, float16, median of {runs} | loaded | loaded and at work | peak / weights |\n|---|---|---|---|")
    for way, results in told.items():
        print(
            f"| {way} | {middle(results, 'seconds'):.2f} s | {middle(results, 'read_seconds'):.2f} s "
            f"| {middle(results, 'peak_of_weights'):.2f} |"
        )
    for name, what in (("seconds", "loading"), ("read_seconds", "loading until at work")):
        print(f"\n{what}: ours / plain = {middle(told['ours'], name) / middle(told['plain diffusers'], name):.3f}")


def generating(runs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="linfusion-bench-") as folder:
        told = alternated(runs, "generate", folder)
    print(f"\n| built-in model, {SIDE_PX}x{SIDE_PX}, softmax, warm, median of {runs} | an image |\n|---|---|")
    for way, results in told.items():
        print(f"| {way} | {middle(results, 'seconds'):.3f} s |")
    print(
        "\na warm image: ours / plain = "
        f"{middle(told['ours'], 'seconds') / middle(told['plain diffusers'], 'seconds'):.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--only", choices=["load", "generate"])
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        kind, way, *rest = chosen.child
        print(
            json.dumps(
                load_child(way, rest[0], Path(rest[1])) if kind == "load" else generate_child(way, Path(rest[0]))
            )
        )
        return
    if chosen.only in (None, "load"):
        loading(chosen.runs)
    if chosen.only in (None, "generate"):
        generating(chosen.runs)


if __name__ == "__main__":
    main()
