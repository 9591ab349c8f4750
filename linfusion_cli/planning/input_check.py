"""Checks the files of a job by their configs and headers, so that a plan accepts nothing that loading would refuse."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from linfusion_cli.config.extras import each, inversion
from linfusion_cli.config.job import Job
from linfusion_cli.config.schedulers import EXTRA, SCHEDULERS, missing_package
from linfusion_cli.errors import UsageError, WeightsError, option
from linfusion_cli.files import user_path
from linfusion_cli.models import family_folder
from linfusion_cli.planning.job_weights import JobWeights
from linfusion_cli.planning.render_plan import LoraInput
from linfusion_cli.planning.scheduler_choice import ZERO_SNR, SchedulerChoice
from linfusion_cli.weights.adapter_files import check_ip_adapter
from linfusion_cli.weights.conditioning_check import check_conditioning, text_widths
from linfusion_cli.weights.controlnet_union import MODE_NUMBERS
from linfusion_cli.weights.embedding_file import taken, vectors_of
from linfusion_cli.weights.families import FAMILY_ROWS
from linfusion_cli.weights.image_encoder import check_image_encoder
from linfusion_cli.weights.ip_adapter_fit import check_ip_adapter_fit, check_projection
from linfusion_cli.weights.linfusion_fit import check_linfusion_fit
from linfusion_cli.weights.lora_fit import check_lora_fit
from linfusion_cli.weights.lora_names import check_lora, plain_lora
from linfusion_cli.weights.model_check import check_controlnet, check_model, check_vae
from linfusion_cli.weights.model_family import check_family
from linfusion_cli.weights.pipeline_settings import read_json_object
from linfusion_cli.weights.safetensors_header import Header
from linfusion_cli.weights.single_file import ZTSNR
from linfusion_cli.weights.single_file_layouts import TOKENIZER_OF
from linfusion_cli.weights.tokenizer_files import words_of
from linfusion_cli.weights.unet_file import check_unet, config_path, unet_config
from linfusion_cli.weights.used_files import linfusion_folder
from linfusion_cli.weights.weight_file import WeightFile


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


def _check_canny(job: Job) -> None:
    extras = job.settings.extras
    if extras.controlnets and extras.control_preprocess == "canny" and importlib.util.find_spec("cv2") is None:
        raise no_opencv()


def no_opencv() -> UsageError:
    """What to say where the package that finds edges is not installed."""
    return UsageError(
        'canny needs OpenCV. Install it with: pip install "linfusion-cli[canny]"', parameter="control_preprocess"
    )


def _check_zero_snr(job: Job, weights: JobWeights, configs: Path) -> None:
    """Raises UsageError for a scheduler that would ignore the model's noise schedule of zero terminal SNR."""
    path, prediction = weights.model.path, job.settings.model.prediction
    if path is None:
        return
    config = (path if path.is_dir() else configs) / "scheduler" / "scheduler_config.json"
    own = config.is_file() and bool(read_json_object(config).get(ZERO_SNR))
    if own or prediction.endswith("_zero_snr") or (path.is_file() and ZTSNR in weights.model.header.tensors):
        SchedulerChoice.of(job.settings.sampling.scheduler).require_zero_snr()


def check_packages(loras: Iterable[LoraInput]) -> None:
    """Raises UsageError for a LoRA that is mounted by a package which is not installed."""
    if importlib.util.find_spec("peft") is None:
        for lora in loras:
            if not lora.stages and any(plain_lora(header) for header in lora.file.headers):
                raise UsageError(
                    f"{lora.file.locations[0]}: needs the package peft. "
                    'Install it with: pip install "linfusion-cli[lora]"',
                    parameter="loras",
                )


def check_inputs(job: Job, weights: JobWeights) -> None:
    """Checks the model, its autoencoder and what is mounted on it where they are on this machine.

    Raises WeightsError that names the first file that can't be used, and why.
    """
    _check_packages(job)
    _check_canny(job)
    beside = job.settings.model.configs
    configs = user_path(beside) if beside else family_folder(job.settings.model.family)
    _check_model(job, weights, configs)
    _check_zero_snr(job, weights, configs)
    unet = unet_config(weights.model, weights.unet, configs)
    own = weights.model.path
    texts = own if own is not None and own.is_dir() else configs  # the folder with the text encoders' configs
    if unet is not None:
        model, other = weights.model.open(), weights.unet.path if weights.unet is not None else None
        check_conditioning(unet, texts, config_path(other or model))
        linear, settings = weights.linfusion, job.settings.model
        if linear is not None and linear.path is not None and "linear" in (settings.attention, settings.base_attention):
            check_linfusion_fit(linfusion_folder(linear.path), unet)
    if weights.vae is not None:
        check_vae(weights.vae, configs)
    row, width = FAMILY_ROWS[job.settings.model.family], weights.text_dim
    given: set[tuple[Path, str]] = set()  # words of tokenizers
    for embedding, text in zip(weights.inversions, job.settings.extras.textual_inversions, strict=True):
        if embedding.path is None:
            continue
        names = vectors_of(embedding.header, two_encoders=row.two_text_encoders)
        if unet is not None:
            widths = text_widths(texts)
            for part, name in names.items():
                _check_vectors(embedding.header, name, part, widths.get(part, 0))
                _check_token(embedding, inversion(text)[1], texts / TOKENIZER_OF[part], given)
    for lora in (one for one in weights.loras if one.path is not None):
        check_lora(lora.header, width)
        if unet is not None:
            check_lora_fit(lora.header, unet, texts, two_text_encoders=row.two_text_encoders)
    if weights.ip_adapter is not None and weights.ip_adapter.path is not None:
        check_ip_adapter(weights.ip_adapter.header, width)
        check_projection(weights.ip_adapter.header)
        if unet is not None:
            check_ip_adapter_fit(weights.ip_adapter.header, unet)
    encoder = weights.ip_encoder
    if encoder is not None and encoder.path is not None:
        check_image_encoder(encoder.path, encoder.headers)
    modes = each(job.settings.extras.control_modes, len(weights.controlnets))
    for controlnet, mode in zip(weights.controlnets, modes, strict=True):
        if controlnet.path is not None:
            check_controlnet(controlnet, controlnet.path, MODE_NUMBERS.get(mode), unet)


def _check_vectors(header: Header, name: str, part: str, width: int) -> None:
    found = header.tensors[name].shape[-1]
    if width and found != width:
        what = f"vectors of {found} numbers, the model's {part} has {width}: for another family"
        raise WeightsError(f"{header.path}: {what}", parameter="textual_inversions")


def _check_token(embedding: WeightFile, token: str, tokenizer: Path, given: set[tuple[Path, str]]) -> None:
    """given: the tokenizers and tokens of the embeddings before, to which this one is added."""
    if (tokenizer, token) in given or token in words_of(tokenizer):
        raise taken(token, embedding.header, embedding.locations[0])
    given.add((tokenizer, token))


def _check_model(job: Job, weights: JobWeights, configs: Path) -> None:
    """The model, and the UNet that is used in place of its own. configs: those that a model in one file takes."""
    model, path, preset = job.settings.model, weights.model.path, job.preset
    if path is not None:
        if weights.model.family:
            check_family(path, weights.model.family, model.family, preset)
        beside = user_path(model.configs) if model.configs else None
        check_model(weights.model, path, model.family, beside, weights.replaced)
    if weights.unet is not None and weights.unet.path is not None:
        check_unet(weights.unet, weights.model, model.family, preset, configs)
