"""Writes the trained parts as a Stable Diffusion pipeline folder with LinFusion weights beside it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from transformers import CLIPTokenizer

from linfusion_cli.files import replacing, write_atomically
from linfusion_cli.json_files import read_json
from linfusion_cli.landscapes.train_denoiser import TOKENIZER, Student, build_scheduler, build_text_encoder, build_unet
from linfusion_cli.training.trainer import averaged


def export(run_folder: Path, vae_folder: Path, target: Path, start: Path | None = None, blend: float = 1.0) -> int:
    """Saves the moving averages in float16, loadable by diffusers; returns the size in bytes.

    `linfusion/` holds the linear attentions of the run; those of a pure teacher are its projections, to be distilled.
    start: the model that was trained further; blend: the run's part of the weights, 0 to 1, the rest are those of
    `start`. Between the two, most of what was learned is there and little of what was known is lost (arXiv 2109.01903).
    """
    tokenizer = CLIPTokenizer.from_pretrained(run_folder / TOKENIZER)
    student = Student(build_text_encoder(tokenizer), build_unet())
    student.load_state_dict(averaged(run_folder))
    if start is not None:
        _blend(student, Student.of(start), blend)
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(vae_folder),
        text_encoder=student.text_encoder,
        tokenizer=tokenizer,
        unet=student.unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16)
    student.attentions.half()
    with replacing(target, folders=True) as part:
        pipeline.save_pretrained(part)
        # A plain from_pretrained goes by this number format: float32, like the rest.
        _change(part / "text_encoder" / "config.json", dtype="float32")
        _change(part / "vae" / "config.json", _name_or_path="")  # no folder of this machine
        student.linfusion.save(part / "linfusion")
        _write_sums(part)
    return sum(path.stat().st_size for path in target.rglob("*") if path.is_file())


@torch.no_grad()
def _blend(student: Student, start: Student, part: float) -> None:
    """theta = (1 - part) theta_start + part theta (arXiv 2109.01903, section 3)."""
    before = start.state_dict()
    for name, tensor in student.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.lerp(before[name].float(), tensor.float(), part))


def _write_sums(folder: Path) -> None:
    """Keeps the hash of every weight file, as sha256sum does, so that damage is found before an image is begun."""
    paths = sorted(folder.rglob("*.safetensors"))
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n" for path in paths
    ]
    write_atomically(folder / "SHA256SUMS", "".join(lines))


def _change(path: Path, **values: str) -> None:
    write_atomically(path, json.dumps(read_json(path) | values, indent=2) + "\n")
