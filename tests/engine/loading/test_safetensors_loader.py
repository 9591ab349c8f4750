"""Weights on their way from a file to a device: borrowed, then owned; the same numbers, never two copies of all."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from linfusion_cli.engine.loading.safetensors_loader import own, own_all, read_tensors
from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.safetensors_header import read_header

CPU = torch.device("cpu")
GIVEN = {
    "a": torch.randn(3, 5).half(),
    "big": torch.randn(70, 40, 3, 3),
    "empty": torch.zeros(0, 4),
    "odd": torch.arange(3, dtype=torch.uint8),
    "z": torch.randn(9),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(GIVEN, tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


def is_owned(value: Tensor) -> bool:
    return value.untyped_storage().resizable()


def test_borrowed_tensors_are_the_file_and_owned_ones_are_not(file: Path) -> None:
    borrowed = read_tensors(read_header(file), None, borrow=True)
    assert all(
        torch.equal(borrowed[name], given) and borrowed[name].dtype == given.dtype for name, given in GIVEN.items()
    )
    assert not is_owned(borrowed["big"])
    assert not is_owned(borrowed["a"])
    for name, given in GIVEN.items():
        own(borrowed[name], CPU)
        assert torch.equal(borrowed[name], given)
    assert borrowed["big"].is_contiguous(memory_format=torch.channels_last)
    assert all(is_owned(value) for name, value in borrowed.items() if name in ("a", "big"))


def test_what_is_converted_is_never_borrowed(file: Path) -> None:
    halves = read_tensors(read_header(file), torch.float16, borrow=True)
    assert torch.equal(halves["big"], GIVEN["big"].half())
    assert not is_owned(halves["a"])  # float16 in the file already


def test_a_borrowed_tensor_can_be_written_and_the_file_stays(file: Path) -> None:
    before = file.read_bytes()
    read_tensors(read_header(file), None, borrow=True)["big"].zero_()
    assert file.read_bytes() == before


def test_owning_a_model_once_is_enough(file: Path) -> None:
    model = nn.Conv2d(40, 70, 3)
    model.load_state_dict(
        {"weight": read_tensors(read_header(file), None, borrow=True)["big"], "bias": torch.zeros(70)}, assign=True
    )
    own_all(model, CPU)
    places = [value.data_ptr() for value in model.parameters()]
    own_all(model, CPU)
    assert places == [value.data_ptr() for value in model.parameters()]
    file.write_bytes(b"")  # nothing depends on the file any more
    assert torch.equal(model.weight, GIVEN["big"])


@pytest.mark.parametrize("borrow", [False, True])
def test_a_file_that_became_shorter_is_told(file: Path, borrow: bool) -> None:
    header = read_header(file)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(WeightsError, match="shorter"):
        read_tensors(header, None, borrow=borrow)
