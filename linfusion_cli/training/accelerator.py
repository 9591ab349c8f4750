"""Chooses the device and the number format of a training, through Hugging Face accelerate."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import is_tensorboard_available

from linfusion_cli.errors import UsageError, option


def make_accelerator(device: str, precision: str, log_folder: Path | None = None) -> Accelerator:
    """Makes the accelerator of this process (`accelerate launch` starts one process per GPU).

    device:     "auto" (a GPU where there is one), "cpu" or "cuda"
    precision:  "no" (float32), "bf16" or "fp16" (mixed precision)
    log_folder: where a TensorBoard log is written, if TensorBoard is installed

    Raises UsageError for an unknown device, for "cuda" without a GPU, and for "fp16" on a CPU, which has no fast
    arithmetic for it.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f'"{device}": allowed are auto, cpu and cuda; CUDA_VISIBLE_DEVICES says which GPUs', parameter="device"
        )
    gpu = torch.cuda.is_available()
    if device == "cuda" and not gpu:
        raise UsageError(
            f"cuda: torch {torch.__version__} finds no GPU on this machine. Try ",
            option("device", "cpu"),
            parameter="device",
        )
    cpu = device == "cpu" or not gpu
    if cpu and precision == "fp16":
        raise UsageError("fp16: on a CPU use bf16 or no", parameter="precision")
    log = "tensorboard" if log_folder and is_tensorboard_available() else None
    accelerator = Accelerator(mixed_precision=precision, cpu=cpu, log_with=log, project_dir=log_folder)
    if log:
        accelerator.init_trackers("tensorboard")
    return accelerator
