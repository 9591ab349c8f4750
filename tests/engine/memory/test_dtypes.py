"""Sums over an image are float64, where the device has it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from linfusion_cli.engine.memory.dtypes import DTYPES, for_sums


@pytest.mark.parametrize("name", DTYPES)
def test_names_are_torchs_own(name: str) -> None:
    assert DTYPES[name] == getattr(torch, name)
    assert for_sums(torch.zeros(1, dtype=DTYPES[name])) == torch.float64


def test_apples_gpus_have_no_float64() -> None:
    values: Any = SimpleNamespace(device=torch.device("mps"))
    assert for_sums(values) == torch.float32
