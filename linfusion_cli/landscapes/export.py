"""Writes the trained parts as a Stable Diffusion pipeline folder with LinFusion weights beside it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from linfusion_cli.landscapes.denoiser import Student, build_scheduler, build_text_encoder, build_unet
from linfusion_cli.landscapes.tokenizer import build_tokenizer
from linfusion_cli.training.run import averaged


def export(run_folder: Path, vae_folder: Path, target: Path) -> int:
    """Saves the moving averages in float16, loadable by diffusers; returns the size in bytes.

    `linfusion/` holds the linear attentions of the run; those of a pure teacher are its projections, to be distilled.
    """
    tokenizer = build_tokenizer()
    student = Student(build_text_encoder(tokenizer), build_unet())
    student.load_state_dict(averaged(run_folder))
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
    pipeline.save_pretrained(target)
    _declare_float32(target / "text_encoder" / "config.json")
    student.attentions.half()
    student.linfusion.save(target / "linfusion")
    _write_sums(target)
    return sum(path.stat().st_size for path in target.rglob("*") if path.is_file())


def _write_sums(folder: Path) -> None:
    """Keeps the hash of every weight file, as sha256sum does, so that damage is found before a picture is begun."""
    paths = sorted(folder.rglob("*.safetensors"))
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n" for path in paths]
    (folder / "SHA256SUMS").write_text("".join(lines))


def _declare_float32(path: Path) -> None:
    """Lets a plain from_pretrained load the text encoder in float32, like the rest: transformers goes by the saved dtype."""
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dtype": "float32"}, indent=2) + "\n")
