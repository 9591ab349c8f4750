"""Flags that a command lacks: those of other tools, with what to use in their place, and misspelled ones."""

from __future__ import annotations

from typing import Any

from linfusion_cli.cli.spelling import other_words
from linfusion_cli.errors import nearest_name

_STAGES = "every large image is made in stages here; --size names the last, --upscale-strength how much each draws anew"
_MEMORY = "the plan keeps within the memory that is free, or within --max-memory"
_SEVERAL = "generate -n N makes N images of a prompt, each with a seed of its own"
_DTYPE = "--dtype float16, bfloat16 or float32 names the number format"
ADVICE = {
    "n": "-n is the number of images of generate; --negative says what not to draw",
    "n-iter": _SEVERAL,
    "n-samples": _SEVERAL,
    "batch-size": _SEVERAL,
    "batch-count": _SEVERAL,
    "num-images": _SEVERAL,
    "num-images-per-prompt": _SEVERAL,
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


def unknown_flag(error: BaseException) -> str:
    """The message for a flag that the command lacks; "" for any other error of click."""
    if type(error).__name__ != "NoSuchOption":
        return ""
    given = str(getattr(error, "option_name", ""))
    if instead := advice(given):
        return f"no such option {given}: {instead}"
    context: Any = getattr(error, "ctx", None)
    parameters = context.command.params if context is not None else ()
    flags = {flag for one in parameters for flag in (*one.opts, *one.secondary_opts)}
    own = [flag.removeprefix("--") for flag in flags if flag.startswith("--")]
    others = other_words(context.info_name) if context is not None else ()
    close = nearest_name(given.lstrip("-"), own) or nearest_name(given.lstrip("-"), others)
    return f"no such option {given}" + (f". Did you mean --{close}?" if close else "")
