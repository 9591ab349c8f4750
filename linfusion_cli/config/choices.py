"""The words that options and preset keys choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from linfusion_cli.config.schedulers import SCHEDULERS
from linfusion_cli.weights.controlnet_union import MODE_NUMBERS, NO_MODE
from linfusion_cli.weights.families import FAMILY_ROWS

Attention = Literal["linear", "softmax"]
Prediction = Literal["auto", "epsilon", "v_prediction", "v_prediction_zero_snr"]
Dtype = Literal["float16", "bfloat16", "float32"]
PLAIN, FUSED = KERNELS = ("plain", "fused")  # of linear attention, norms and GEGLU
Preprocess = Literal["none", "canny"]
StorePrompt = Literal["yes", "no"]
Variant = Literal["fp16", ""]  # of the files on the hub
Padding = Literal["reflect", "zeros"]
Between = Literal["pixel", "latent"]
Resize = Literal["lanczos", "bicubic", "bilinear"]
if TYPE_CHECKING:
    Family = str
    Scheduler = str
else:  # the names of the tables
    Family = Literal[tuple(FAMILY_ROWS)]
    Scheduler = Literal[tuple(SCHEDULERS)]
SigmaSchedule = Literal["normal", "karras", "exponential", "beta", "sgm_uniform", "simple"]
TimestepSpacing = Literal["auto", "leading", "trailing", "linspace"]
# What other tools call some of the words that options choose from.
OTHER_WORDS = {
    "fp16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
    "fp32": "float32",
    "full": "float32",
    "single": "float32",
    "gpu": "cuda",
    "nvidia": "cuda",
    "jpg": "jpeg",
    "tif": "tiff",
    "v": "v_prediction",
    "eps": "epsilon",
    "sgm": "sgm_uniform",
    "uniform": "linspace",
    "zero": "zeros",
}
ATTENTIONS: tuple[str, ...] = get_args(Attention)
PREDICTIONS: tuple[str, ...] = get_args(Prediction)
DTYPES: tuple[str, ...] = get_args(Dtype)
STORE_PROMPT: tuple[str, ...] = get_args(StorePrompt)
CONTROL_MODES = (NO_MODE, *MODE_NUMBERS)
PREPROCESSES: tuple[str, ...] = get_args(Preprocess)
