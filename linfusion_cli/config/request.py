"""What a user wrote: one field for each row of the table of options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a user wrote. None means: as the preset says (seed: draw one; max_memory: what the machine has)."""

    prompt: str
    preset: str | None = None  # None: landscape, or the one of the family of `model`
    model: str | None = None
    linfusion: str | None = None  # "none" for softmax attention everywhere
    unet: str | None = None
    vae: str | None = None
    prediction: str | None = None
    keep_projections: bool | None = None
    negative_prompt: str | None = None
    seed: int | None = None  # -1 draws one too
    size: str | None = None  # or the next five: config/size_options.py makes one size of them
    width: int | None = None
    height: int | None = None
    aspect: str | None = None
    megapixels: float | None = None
    long_side: int | None = None
    steps: int | None = None
    guidance: float | None = None
    scheduler: str | None = None
    sigma_schedule: str | None = None
    timestep_spacing: str | None = None
    attention: str | None = None
    base_attention: str | None = None
    loras: tuple[str, ...] = ()
    textual_inversions: tuple[str, ...] = ()
    clip_skip: int | None = None
    prompt_weights: bool | None = None
    controlnets: tuple[str, ...] = ()
    control_images: tuple[Path, ...] = ()
    control_scales: tuple[float, ...] = ()
    control_ends: tuple[float, ...] = ()
    control_modes: tuple[str, ...] = ()
    control_preprocess: str | None = None
    ip_adapter: str | None = None
    ip_encoder: str | None = None
    ip_images: tuple[Path, ...] = ()
    ip_scale: float | None = None
    init_image: Path | None = None
    init_strength: float | None = None
    upscale_image: Path | None = None  # beats init_image: stage 0 is this image
    upscale_strength: float | None = None
    input_range: str | None = None  # "LOW..HIGH": black and white in images of more than 8 bits per channel
    device: str = "auto"
    dtype: str = "auto"
    output: Path | None = None
    overwrite: bool = False
    format: str | None = None  # None: as the name of the output ends
    bits: int | None = None
    quality: int | None = None
    lossless: bool | None = None
    dpi: int | None = None
    color_profile: str | None = None
    tiff_compression: str | None = None
    pyramid: bool | None = None
    stages_folder: Path | None = None
    memory_log: Path | None = None
    preview: Path | None = None  # a JPEG file, or "-" for the terminal
    preview_every: int | None = None  # steps
    max_memory: str | None = None
    scratch_folder: Path | None = None
    checkpoint_seconds: float | None = None
    restart: bool = False
    models: tuple[Path, ...] = ()
    kernels: str = "auto"
    ranks: int | None = None
    devices: str | None = None
    eta: float | None = None
    rank_shares: str | None = None
    store_prompt: str | None = None
    index: int = 0  # the position in a batch, for {index} in the file's name
