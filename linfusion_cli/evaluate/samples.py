"""Makes the images to measure: single-stage ones in batches, others one by one through the engine's pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from linfusion_cli.config.job import Job
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.distill.teacher import Teacher
from linfusion_cli.distill.variants import load_variant
from linfusion_cli.engine.adapters.adapter_stack import Mounted
from linfusion_cli.engine.adapters.lora import load_loras
from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.engine.components.model_cache import ModelCache
from linfusion_cli.engine.components.unet_and_vae import Components
from linfusion_cli.engine.loading.safetensors_loader import own_all
from linfusion_cli.engine.pipeline import images
from linfusion_cli.engine.sampling.band_guidance import Guidance
from linfusion_cli.engine.sampling.denoiser import Conditioning, Denoiser
from linfusion_cli.engine.sampling.noise import gaussian
from linfusion_cli.engine.sampling.progressive_upscale import Clock, base
from linfusion_cli.engine.sampling.schedulers import make_scheduler
from linfusion_cli.engine.streaming.banded_unet import PlainUNet
from linfusion_cli.events import Notify
from linfusion_cli.files import replacing
from linfusion_cli.geometry import Size
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.planning.render_plan import RenderPlan
from linfusion_cli.planning.upscale_schedule import Stage
from linfusion_cli.system.device import Machine
from linfusion_cli.weights.used_files import linfusion_folder
from linfusion_cli.weights.weight_file import WeightFile

SMALL_AREA_PX = 16 * 128 * 128  # pixels per batch of single-stage images; larger batches take a fifth longer per image
IMAGES, OLD_IMAGES = "images", "pictures"  # the folder of a study's images, and their row in its report; in 0.1.0
ATTENTIONS = ("linear", "softmax", "variant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How images are made.

    attention: "linear" (LinFusion), "softmax" (the model's own), or "variant" (an ablation of distill.variants)
    weights:   location of the LinFusion weights, "" = those of the preset; for a variant its folder
    direct:    in one stage at the full size, without the progressive upscale
    lanczos:   the base image, enlarged by a Lanczos filter
    upscale:   keys of the preset's [upscale] with other values, which may lie outside the ranges of presets
    """

    attention: str = "linear"
    weights: str = ""
    direct: bool = False
    lanczos: bool = False
    upscale: dict[str, Any] = field(default_factory=dict)


def preset_job(preset: str, way: Way, prompt: str, seed: int, size: Size | None) -> Job:
    """The job of one image; size None = the preset's own. Raises UsageError for a preset that can't be used."""
    attention = "softmax" if way.attention == "softmax" else "linear"
    linfusion = way.weights if way.attention == "linear" and way.weights else None
    request = Request(prompt=prompt, preset=preset, seed=seed, attention=attention, linfusion=linfusion)
    job = resolve(replace(request, size=str(size) if size else None))
    settings = job.settings.model_copy(update={"upscale": job.settings.upscale.model_copy(update=way.upscale)})
    if way.direct and size is not None:
        side = round(size.area**0.5)
        settings = settings.model_copy(update={"model": settings.model.model_copy(update={"train_size_px": side})})
    return replace(job, settings=settings)


def plan_of(preset: str, way: Way, machine: Machine, prompt: str, seed: int, size: Size | None) -> Plan:
    """The plan of one image. Attentions other than linear can't run in bands: their UNet runs on whole images.

    Raises WeightsError for a model that is not on this machine.
    """
    plan = make_plan(preset_job(preset, way, prompt, seed, size), machine, keep_text_encoders=True)
    if way.attention == "linear":
        return plan
    return replace(
        plan, stages=tuple(replace(stage, bands=replace(stage.bands, unet_latent=0)) for stage in plan.stages)
    )


class _Given(ModelCache):
    """A model cache of components that are loaded already, with attentions that a preset may not be able to name."""

    def __init__(self, conditioning: Conditioning, models: Components) -> None:
        super().__init__()
        self._given = conditioning, models

    def take(self, plan: RenderPlan, notify: Notify) -> tuple[Conditioning, Components]:
        return self._given


class Maker:
    """Makes images with one model, which is loaded once, and one attention.

    preset:        name of the preset; its first repository is loaded
    train_size_px: side of the model's training area
    Raises WeightsError if the model or the attention's weights can't be used.
    """

    def __init__(self, preset: str, way: Way, machine: Machine) -> None:
        self.preset, self.way, self.machine = preset, way, machine
        settings = preset_job(preset, way, "a lake", 0, None).settings
        self.train_size_px = settings.model.train_size_px
        self.teacher = Teacher.load(settings.model.repositories[0], torch.device(machine.device))
        pipeline = self.teacher.pipeline
        for part in (pipeline.unet, pipeline.vae):
            own_all(part, self.teacher.device)
        loras = load_loras(self.plan("a lake", 0, None).components.loras, pipeline)
        mounted = Mounted(pipeline.unet, _linfusion(way, settings.model.linfusion, pipeline.unet), loras)
        self.models = Components(mounted, pipeline.vae, dict(pipeline.scheduler.config))

    def plan(self, prompt: str, seed: int, size: Size | None) -> Plan:
        """The plan of one image, see plan_of(); size None = the preset's own."""
        return plan_of(self.preset, self.way, self.machine, prompt, seed, size)

    def make(self, prompts: list[str], seeds: list[int], size: Size) -> Iterator[Tensor]:
        """Yields an image for each prompt (one at least) and its seed: uint8 (3, height, width) on the CPU."""
        if self.way.lanczos:
            yield from self._enlarged(prompts, seeds, size)
        else:
            yield from self._drawn(prompts, seeds, size)

    def _drawn(self, prompts: list[str], seeds: list[int], size: Size) -> Iterator[Tensor]:
        """The images as the model makes them, without a Lanczos filter."""
        plan = self.plan(prompts[0], seeds[0], size)
        if len(plan.stages) > 1:
            yield from (self._through_pipeline(prompt, seed, size) for prompt, seed in zip(prompts, seeds, strict=True))
            return
        count = max(1, SMALL_AREA_PX // plan.stages[0].canvas.area)
        for start in range(0, len(prompts), count):
            yield from self._at_once(plan, prompts[start : start + count], seeds[start : start + count])

    def _enlarged(self, prompts: list[str], seeds: list[int], size: Size) -> Iterator[Tensor]:
        small = self.plan(prompts[0], seeds[0], size).stages[0].size
        yield from (lanczos(image, size) for image in self._drawn(prompts, seeds, small))

    def _conditioning(self, negative_prompt: str, prompts: list[str]) -> Conditioning:
        with torch.inference_mode():
            encoded = self.teacher.pipeline.encode_prompt(
                prompts,
                device=self.teacher.device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=True,
                negative_prompt=[negative_prompt] * len(prompts),
            )
        empty = encoded[0].new_zeros(len(prompts), 0)
        return Conditioning(encoded[0], encoded[1], *(encoded[2:] if len(encoded) == 4 else (empty, empty)))

    @torch.inference_mode()
    def _at_once(self, plan: Plan, prompts: list[str], seeds: list[int]) -> Iterator[Tensor]:
        """Single-stage images as one batch, each with the noise of its own seed."""
        stage, sampling, config = plan.stages[0], plan.sampler, self.models.scheduler_config
        unet = self.models.mounted.attend(stage.attention)
        scheduler = make_scheduler(sampling.scheduler, config)
        clock = Clock.of_stage(stage, scheduler, sampling)
        total, guidance = int(config["num_train_timesteps"]), Guidance.of(sampling, stage)
        conditioning = self._conditioning(plan.conditioning.negative_prompt, prompts)
        told = int(unet.config.time_cond_proj_dim or 0)
        denoiser = Denoiser(PlainUNet(unet), conditioning, sampling, guidance, total, stage.size, guidance_dim=told)
        size = stage.canvas.latent()
        shape = (1, int(unet.config.in_channels), size.height, size.width)
        noise = torch.cat([gaussian(shape, seed, 0) for seed in seeds]).to(self.teacher.device)
        latents = base(denoiser, clock, clock.first(noise, None), seeds, lambda *_: None)
        yield from (levels.cpu() for levels in self._decode(latents, stage))

    def _decode(self, latents: Tensor, stage: Stage) -> Tensor:
        vae = self.teacher.pipeline.vae
        decoded: Tensor = vae.decode(latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)).sample
        cropped = decoded[:, :, : stage.size.height, : stage.size.width]
        return (cropped * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)

    def _through_pipeline(self, prompt: str, seed: int, size: Size) -> Tensor:
        rows: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
        plan = self.plan(prompt, seed, size)
        model_cache = _Given(self._conditioning(plan.conditioning.negative_prompt, [prompt]), self.models)
        for image in images(plan, lambda _: None, model_cache=model_cache):
            rows = list(image.rows)
        return torch.from_numpy(np.concatenate(rows)).permute(2, 0, 1)


def _linfusion(way: Way, locations: tuple[str, ...], unet: Any) -> LinFusion | None:
    if way.attention == "softmax":
        return None
    if way.attention == "variant":
        return load_variant(Path(way.weights), unet)
    file = WeightFile.resolve((way.weights,) if way.weights else locations, "", "linfusion")
    return LinFusion.load(linfusion_folder(file.open()))


def lanczos(image: Tensor, size: Size) -> Tensor:
    """Resizes a uint8 image (3, height, width) by Pillow's Lanczos filter."""
    enlarged = Image.fromarray(image.permute(1, 2, 0).numpy()).resize(
        (size.width, size.height), Image.Resampling.LANCZOS
    )
    return torch.from_numpy(np.array(enlarged)).permute(2, 0, 1)


def keep(folder: Path, maker: Maker, prompts: list[str], seeds: list[int], size: Size) -> Iterator[int]:
    """Makes the images that are missing in a folder, as 00000.png and so on; yields the number there after each.

    prompts, seeds: one each per image, in the order of the files
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [index for index in range(len(prompts)) if not image_path(folder, index).exists()]
    made = (
        maker.make([prompts[index] for index in missing], [seeds[index] for index in missing], size)
        if missing
        else iter(())
    )
    for done, (index, image) in enumerate(zip(missing, made, strict=True), len(prompts) - len(missing) + 1):
        with replacing(image_path(folder, index)) as part:
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(part, "png")
        yield done


def image_folder(folder: Path) -> Path:
    """The folder of a study's images; studies of 0.1.0 have another name for it."""
    old = folder / OLD_IMAGES
    return old if old.is_dir() else folder / IMAGES


def image_path(folder: Path, index: int) -> Path:
    """The path of image `index`, counted from 0."""
    return folder / f"{index:05d}.png"


def read_image(path: Path) -> Tensor:
    """Reads an image file as uint8 (3, height, width), RGB. Raises what Pillow raises if it can't be read."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
