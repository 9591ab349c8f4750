"""Checks the files of a job by their configs and headers, so that a plan accepts nothing that loading would refuse."""

from __future__ import annotations

from pathlib import Path

from linfusion_cli.config.extras import Weighted, each, inversion
from linfusion_cli.config.job import Job
from linfusion_cli.config.schedulers import EXTRA, SCHEDULERS, missing_package
from linfusion_cli.errors import UsageError, option
from linfusion_cli.weights.adapter_files import adapter_file, check_ip_adapter, image_encoder_of, lora_file
from linfusion_cli.weights.controlnet_union import MODE_NUMBERS
from linfusion_cli.weights.embedding_file import vectors_of
from linfusion_cli.weights.image_encoder import encoder_config
from linfusion_cli.weights.locate import find
from linfusion_cli.weights.lora_names import check_lora
from linfusion_cli.weights.model_check import check_controlnet, check_model, check_vae
from linfusion_cli.weights.model_family import check_family, text_dim_of
from linfusion_cli.weights.safetensors_header import read_header
from linfusion_cli.weights.unet_file import check_unet, has_unet


def _check_packages(job: Job) -> None:
    sampling = job.settings.sampling
    if package := missing_package(sampling.scheduler, sampling.sigma_schedule):
        of_sigmas = SCHEDULERS[sampling.scheduler].package != package
        key, value = ("sigma_schedule", sampling.sigma_schedule) if of_sigmas else ("scheduler", sampling.scheduler)
        nearest = "karras" if of_sigmas else "dpmpp_2m_sde" if package == "torchsde" else "euler"
        raise UsageError(
            f'"{value}" needs {package}, which is not installed. Run: pip install "linfusion-cli[{EXTRA}]". Nearest: ',
            option(key, nearest),
            parameter=key,
        )


def check_inputs(job: Job) -> None:
    """Checks the model, its autoencoder and its ControlNets where they are on this machine.

    Raises WeightsError that names the first file that can't be used, and why.
    """
    model, extras = job.settings.model, job.settings.extras
    _check_packages(job)
    path = next((found for place in model.repositories if (found := find(place, model.revision))), None)
    if path is not None:
        if has_unet(path):
            check_family(path, model.variant, model.family, job.preset)
        check_model(path, model.family, Path(model.configs).expanduser() if model.configs else None)
    if model.unet and (unet := find(model.unet)):
        check_unet(unet, model.variant, model.family, path, job.preset)
    if model.vae and (vae := find(model.vae)):
        check_vae(vae)
    for text in extras.textual_inversions:
        if (embedding := find(inversion(text)[0])) and embedding.is_file():
            vectors_of(read_header(embedding), model.family)
    width = text_dim_of(path, model.variant) if path is not None else 0
    for location in (Weighted.parse(text).location for text in extras.loras):
        if lora := find(location):
            check_lora(read_header(lora_file(lora)), width)
    if extras.ip_adapter and (found := find(extras.ip_adapter)):
        adapter = adapter_file(found, model.family)
        check_ip_adapter(read_header(adapter), width)
        encoder_config(image_encoder_of(adapter, found, extras.ip_encoder))
    for place, mode in zip(extras.controlnets, each(extras.control_modes, len(extras.controlnets)), strict=True):
        if controlnet := find(place):
            check_controlnet(controlnet, MODE_NUMBERS.get(mode))
