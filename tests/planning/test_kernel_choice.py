"""Fused kernels on cards, plain ones elsewhere; what was asked for and can't be is refused."""

import pytest
from made_up import job, machine

from linfusion_cli.errors import UsageError
from linfusion_cli.planning.kernel_choice import kernels_of


@pytest.mark.parametrize(
    ("asked", "device", "expected"),
    [
        ("auto", "cpu", "plain"),
        ("auto", "mps", "plain"),
        ("auto", "cuda:0", "fused"),
        ("plain", "cpu", "plain"),
        ("plain", "cuda:0", "plain"),
        ("fused", "cuda:0", "fused"),
    ],
)
def test_each_device_has_its_kernels(asked: str, device: str, expected: str) -> None:
    assert kernels_of(job("256x256", kernels=asked), machine(device, 24)) == expected


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_fused_kernels_without_a_card_are_refused(device: str) -> None:
    with pytest.raises(UsageError, match=rf'made on {device}. Nearest: kernels="plain"'):
        kernels_of(job("256x256", kernels="fused"), machine(device, 24))


def test_unknown_kernels_are_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="auto, plain, fused"):
        job("256x256", kernels="triton")
