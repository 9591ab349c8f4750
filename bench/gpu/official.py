"""The official LinFusion code (arXiv 2409.02097, its repository as a checkout) beside ours: same weights, same process.

Its module alone, a UNet pass with it, and its whole pipeline: diffusers' SD-XL with the official attention mounted.
Everything of the official code runs as it is; only its weights are ours, which are random.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.gpu.case import Case, Setting, attempt
from bench.gpu.models import RandomModels, full_models, tiny_models
from bench.gpu.parity import TOLERANCES, error_of
from bench.gpu.shapes import Image, plan_of, request_of
from bench.gpu.timing import finish, seconds_of
from linfusion_cli.engine.attention.linear_attention import LinearAttention
from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.pipeline import images
from linfusion_cli.engine.streaming.banded_unet import BandedUNet
from linfusion_cli.planning.planner import Plan

RUNS = 3
# channels, heads, inner width, tokens of SD-XL's two levels at 4096x4096 and 16384x8192; of the stand-in last
MODULES = ((640, 10, 40, 65_536), (1280, 20, 80, 16_384), (640, 10, 40, 524_288), (1280, 20, 80, 131_072))
TINY_MODULES = ((32, 4, 8, 500),)
SIZES, TINY_SIZES = ("1024x1024", "2048x2048", "4096x4096"), ("64x64", "128x128")
PIPELINE = Image("sdxl", "1024x1024", 10, "64x64")


def cases(setting: Setting) -> Iterator[Case]:
    sys.path.insert(0, str(setting.official))
    for shape in TINY_MODULES if setting.quick else MODULES:
        yield attempt("module", partial(_module, setting, *shape))
    models, presets = (
        tiny_models("sdxl", setting.device, setting.scratch) if setting.quick else full_models("sdxl", setting.device)
    )
    plan = plan_of(request_of(PIPELINE, setting, presets["4k"]), setting.device)
    unet, linfusion, vae = models.networks(plan.dtype)
    for module in (unet, linfusion.attentions, vae):
        module.to(setting.device)
    theirs = official_for(linfusion, unet)
    for size in TINY_SIZES if setting.quick else SIZES:
        yield attempt("pass", partial(_passes, setting, models, plan, size, unet, linfusion, theirs))
    yield attempt("pipeline", partial(_pipelines, setting, models, presets["4k"], theirs))


def official_for(linfusion: LinFusion, unet: Any) -> Any:
    """The official model with the same weights, by the official names."""
    from src.linfusion.linfusion import LinFusion as Official  # type: ignore[import-not-found]

    modules = [
        {"module_name": spec.module_name, "dim_n": spec.dim, "heads": spec.heads, "projection_mid_dim": spec.mid_dim}
        for spec in linfusion.specs
    ]
    weights = linfusion.attentions.state_dict()
    with torch.device("meta"):
        official = Official(modules_list=modules)
    official.to_empty(device=unet.device).to(unet.dtype)
    official.load_state_dict(weights)
    return official.eval()


def _module(setting: Setting, channels: int, heads: int, mid: int, tokens: int) -> Case:
    from src.linfusion.attention import GeneralizedLinearAttention

    dtype = torch.float32 if setting.kind == "cpu" else torch.float16
    torch.manual_seed(6)
    ours = LinearAttention(channels, heads, mid).to(setting.device, dtype).eval()
    theirs = GeneralizedLinearAttention(
        query_dim=channels, out_dim=channels, dim_head=channels // heads, projection_mid_dim=mid
    )
    theirs.to(setting.device, dtype).eval().load_state_dict(ours.state_dict())
    x = torch.randn(1, tokens, channels, device=setting.device, dtype=dtype)
    name = f"module, {tokens} tokens of {channels} channels"
    return _beside(name, setting, dtype, lambda: ours(x), lambda: theirs(x))


def _beside(
    name: str, setting: Setting, dtype: torch.dtype, ours: Callable[[], Tensor], theirs: Callable[[], Tensor]
) -> Case:
    """Both in turn, the fastest of a few runs each; peaks are what each adds to what the device held before."""
    found: dict[str, Any] = {}
    with torch.inference_mode():
        error = error_of(ours(), theirs())
        for who, run in (("ours", ours), ("official", theirs)) * RUNS:
            seconds, peak = _timed(run, setting)
            found[f"{who}_ms"] = min(found.get(f"{who}_ms", 1e30), round(1e3 * seconds, 3))
            found[f"{who}_peak_gb"] = peak
    found["official_over_ours"] = round(found["official_ms"] / max(found["ours_ms"], 1e-9), 2)
    return Case(name, error <= TOLERANCES[dtype], {**found, "difference": error, "allowed": TOLERANCES[dtype]})


def _timed(run: Callable[[], object], setting: Setting) -> tuple[float, float]:
    cuda = setting.kind == "cuda"
    finish(setting)
    if cuda:
        torch.cuda.reset_peak_memory_stats(setting.device)
    before = torch.cuda.memory_allocated(setting.device) if cuda else 0
    seconds = seconds_of(run, setting)
    peak = torch.cuda.max_memory_allocated(setting.device) - before if cuda else 0
    return seconds, round(peak / 1e9, 3)


def _passes(
    setting: Setting,
    models: RandomModels,
    plan: Plan,
    size: str,
    unet: Any,
    linfusion: LinFusion,
    theirs: Any,
) -> Case:
    """A UNet pass: ours in the bands of a plan for that size, theirs as diffusers runs it."""
    width, height = (int(side) // 8 for side in size.split("x"))
    device, given = torch.device(setting.device), models.conditioning(plan)
    sample = torch.randn(1, 4, height, width, device=device, dtype=given.embeddings.dtype)
    ids = torch.tensor([[8 * height, 8 * width, 0, 0, 8 * height, 8 * width]], device=device).to(sample)
    added = {"text_embeds": given.pooled, "time_ids": ids}
    time_now = torch.tensor(500, device=device)
    rows = min(height, max(16, (1 << 18) // width))
    banded = BandedUNet(unet, rows, ActivationStore.unlimited(device), Weights(device, resident=True))

    def ours() -> Tensor:
        linfusion.mount(unet)
        try:
            return banded(sample, time_now, given.embeddings, added)
        finally:
            linfusion.unmount(unet)

    def official() -> Tensor:
        with mounted(theirs, unet):
            return unet(sample, time_now, given.embeddings, added_cond_kwargs=added, return_dict=False)[0]

    return _beside(f"UNet pass at {size}, bands of {rows}", setting, sample.dtype, ours, official)


@contextmanager
def mounted(theirs: Any, unet: Any) -> Iterator[None]:
    """Inside, the official attentions are in the UNet; afterwards its own are there again."""
    originals = {name: unet.get_submodule(name) for name in theirs.modules_dict}
    theirs.mount_to(unet=unet)
    try:
        yield
    finally:
        for name, module in originals.items():
            parent, _, attribute = name.rpartition(".")
            setattr(unet.get_submodule(parent), attribute, module)


def _pipelines(setting: Setting, models: RandomModels, preset: str, theirs: Any) -> Case:
    """Latents to pixels with linear attention everywhere; both without text encoders."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    request = replace(request_of(PIPELINE, setting, preset), base_attention="linear", scheduler="euler")
    plan = plan_of(request, setting.device)
    unet, linfusion, vae = models.networks(plan.dtype)
    unit, size = models.conditioning(plan), plan.size

    def ours() -> None:
        for made in images(plan, lambda _: None, model_cache=models):  # type: ignore[arg-type]
            list(made.rows)
        linfusion.unmount(unet)

    scheduler = EulerDiscreteScheduler.from_config(
        {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    )
    empty = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    pipeline = StableDiffusionXLPipeline(vae=vae, unet=unet, scheduler=scheduler, add_watermarker=False, **empty)
    pipeline.set_progress_bar_config(disable=True)

    def official() -> None:
        unet.to(setting.device)
        vae.to(setting.device)
        with mounted(theirs, unet):
            pipeline(
                prompt_embeds=unit.embeddings,
                negative_prompt_embeds=unit.negative_embeddings,
                pooled_prompt_embeds=unit.pooled,
                negative_pooled_prompt_embeds=unit.negative_pooled,
                height=size.height,
                width=size.width,
                num_inference_steps=plan.sampler.steps,
                guidance_scale=plan.sampler.guidance_scale,
                output_type="np",
            )

    found: dict[str, Any] = {"steps": plan.sampler.steps, "dtype": plan.dtype}
    for who, run in (("ours", ours), ("official", official)) * 2:  # the first of each warms up
        found[f"{who}_seconds"], found[f"{who}_peak_gb"] = (round(value, 3) for value in _timed(run, setting))
    return Case(f"pipeline at {size}, latents to pixels", None, found)
