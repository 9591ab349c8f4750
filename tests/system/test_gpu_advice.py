"""What is said of a GPU that is not used fits the system: the build of torch, its driver, who hides the card."""

import re
from dataclasses import replace
from typing import Any

import pytest

from linfusion_cli.system.gpu_advice import CLOSE_OTHERS, NEW_DRIVER, why_broken, why_no_apple, why_unused
from linfusion_cli.system.gpu_probe import Accelerators

NONE = Accelerators(
    torch_version="2.13.0",
    build="cuda 12.8",
    gpus=(),
    driver="",
    driver_cuda=(0, 0),
    present=(),
    refused="",
    limit="",
    complaint="",
)


@pytest.mark.parametrize(
    ("changes", "why", "fix"),
    [
        ({}, "no driver of a GPU is installed", "nvidia-smi"),
        ({"build": "cpu", "limit": "CUDA_VISIBLE_DEVICES=0"}, "torch is the build for CPUs alone", "a driver, and"),
        ({"build": "cpu", "driver_cuda": (12, 2)}, "torch is the build for CPUs alone", "pip install .*whl/cu126"),
        ({"build": "rocm 6.4", "present": ("AMD",)}, "finds no device", "a driver that this build"),
        ({"driver_cuda": (11, 4)}, "the driver is for CUDA 11.4 and older", NEW_DRIVER),
        ({"complaint": "CUDA initialization: The NVIDIA driver on your system is too old"}, "too old", NEW_DRIVER),
    ],
)
def test_each_reason_has_its_fix(changes: dict[str, Any], why: str, fix: str) -> None:
    said = why_unused(replace(NONE, **changes))
    assert why in said[0]
    assert re.match(fix, said[1])


def test_a_full_card_is_no_broken_driver() -> None:
    assert why_broken("CUDA error: out of memory") == ("CUDA error: out of memory", CLOSE_OTHERS)
    assert why_broken("CUDA error: device is lost")[1].startswith("nvidia-smi")


def test_a_machine_that_is_no_mac() -> None:
    assert why_no_apple(built=False) == "this is not a Mac with an Apple GPU"
