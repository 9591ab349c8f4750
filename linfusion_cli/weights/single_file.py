"""Which tensors of a single file (original layout) are read, which are ignored, and which are refused by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.name_patterns import first_named
from linfusion_cli.weights.safetensors_header import Header, TensorInfo
from linfusion_cli.weights.single_file_layouts import TEXT_ENCODERS, Named, named, prefixes

READ = prefixes("unet", "vae", *TEXT_ENCODERS)
ZTSNR = "ztsnr"  # a noise schedule of zero terminal SNR
MARKERS = ("v_pred", ZTSNR)  # ComfyUI's way to say what a model predicts
# The noise schedule is the scheduler's; averaged weights and losses are of training; positions are numbers 0, 1, 2, ...
UNUSED = re.compile(
    r"(alphas_cumprod|alphas_cumprod_prev|betas|logvar|lvlb_weights|scale_factor|denoiser\.sigmas"
    r"|log_one_minus_alphas_cumprod|sqrt_(one_minus_|recip_|recipm1_)?alphas_cumprod|sqrt_recip_alphas"
    r"|posterior_(mean_coef[12]|variance|log_variance_clipped)"
    rf"|({'|'.join(map(re.escape, prefixes('vae')))})?(model_ema|loss)\..*|diffusion_ema\..*"
    r"|(cond_stage_model|conditioner\.embedders\.0)\.text_projection"  # CLIP's, of which the hidden states are read
    r"|.*\.(position_ids|logit_scale|attn_mask))"
)
REFUSED: Mapping[str, str] = {
    r"edm_(mean|std)": "a model with an EDM noise schedule (as Playground 2.5)",
    r"edm_vpred\.sigma_(max|min)": "a model with an EDM noise schedule (as CosXL)",
    r"model\.diffusion_model\.(joint_blocks|context_embedder|x_embedder)\..*": "Stable Diffusion 3",
    r"model\.diffusion_model\.(double_blocks|single_blocks)\..*": "Flux",
    r"depth_model\..*": "a depth model",
    r"(embedder|noise_augmentor)\..*": "Stable unCLIP, which reads an image",
    r"conditioner\.embedders\.\d\.(open_clip|encoder)\..*|.*\.time_stack\..*": "Stable Video Diffusion",
    r"control_model\..*": "a ControlNet (name its file as the ControlNet)",
    r"(lora_|lycoris_).*": "a LoRA (name its file as the LoRA)",
    r"(embedding_manager|bundle_emb)\..*": "a textual inversion (name its file as such)",
}


def check_single_file(header: Header) -> None:
    """Raises WeightsError that names the first tensor of a checkpoint that is not used although images depend on it."""
    if found := first_named(header.tensors, REFUSED):
        name, what = found
        raise WeightsError(f"{header.path}: holds {shown(name)}: {what}, which linfusion can't run as a model")
    for name in header.tensors:
        if not name.startswith(READ) and name not in MARKERS and not UNUSED.fullmatch(name):
            what = f"holds a tensor {shown(name)}, which is not a part of a Stable Diffusion checkpoint"
            raise WeightsError(f"{header.path}: {what}: images may depend on it")


def named_part(header: Header, part: str) -> Named:
    """How a file names a part's tensors. Raises WeightsError if it has none of that part."""
    if (way := named(header.tensors, part)) is None:
        some = next((name for name in header.tensors if name.startswith(prefixes(part))), "")
        what = f"holds only a part of the {part} ({shown(some)})" if some else f"holds no {part}"
        raise WeightsError(f"{header.path}: {what}, so it is not a whole model. Take the full checkpoint")
    return way


def unused(names: Iterable[str]) -> list[str]:
    """Of the tensors of a checkpoint those that no image depends on."""
    return [name for name in names if name not in MARKERS and UNUSED.fullmatch(name)]


def lost(given: Mapping[str, object], converted: Mapping[str, object], source: str) -> None:
    """Raises WeightsError if the conversion to diffusers' names dropped tensors; `given`: as the file names them."""
    kept = {id(value) for value in converted.values()}
    if len(converted) < len(given):
        name = next((name for name, value in given.items() if id(value) not in kept), "?")
        raise WeightsError(f"{source}: its tensor {shown(name)} has no place in the model: images may depend on it")


def is_turbo(tensors: Mapping[str, TensorInfo]) -> bool:
    """Whether a 2.x file has its text encoder where SD-Turbo has it: SD-Turbo predicts noise, 2.1 velocity."""
    return any(name.startswith("conditioner.embedders.0.model.") for name in tensors)
