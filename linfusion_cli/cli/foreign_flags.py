"""Flags of other tools that have no equal here, and what to use in their place."""

from __future__ import annotations

_STAGES = "every large image is made in stages here; --size names the last, --upscale-strength how much each draws anew"
_MEMORY = "the plan keeps within the memory that is free, or within --max-memory"
_DTYPE = "--dtype float16, bfloat16 or float32 names the number format"
ADVICE = {
    "n": "-n is the number of images of generate; --negative says what not to draw",
    "hires": _STAGES,
    "hires-fix": _STAGES,
    "hires-scale": _STAGES,
    "hires-steps": _STAGES,
    "hires-upscaler": _STAGES,
    "highres-fix": _STAGES,
    "enable-hr": _STAGES,
    "hr-scale": _STAGES,
    "hr-upscaler": _STAGES,
    "hr-second-pass-steps": _STAGES,
    "lowvram": _MEMORY,
    "medvram": _MEMORY,
    "novram": _MEMORY,
    "low-vram": _MEMORY,
    "xformers": "--attention linear or softmax names the attention, which is streamed either way",
    "vae-tiling": "the autoencoder works in bands, which leave no seams; no option is needed",
    "tiled-vae": "the autoencoder works in bands, which leave no seams; no option is needed",
    "fp16": _DTYPE,
    "fp32": _DTYPE,
    "half": _DTYPE,
    "no-half": _DTYPE,
    "precision": _DTYPE,
    "styles": "write the style's words into the prompt",
    "subseed": "there are no variation seeds; --seed names the noise",
    "restore-faces": "faces are not redrawn by another model",
}


def advice(flag: str) -> str:
    """What to use instead of a flag of another tool, such as "--hires-fix"; "" for one that is not known."""
    return ADVICE.get(flag.lstrip("-").replace("_", "-"), "")
