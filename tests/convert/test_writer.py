"""The file that is written tensor by tensor is the one that safetensors reads."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from linfusion_cli.convert.writer import NAMES, size_bytes, write
from linfusion_cli.errors import WeightsError

pytestmark = pytest.mark.slow  # all of them together


@given(
    st.lists(st.tuples(st.sampled_from(sorted(NAMES, key=str)), st.lists(st.integers(0, 5), max_size=3)), max_size=6)
)
def test_every_number_format_and_shape_is_read_back(tmp_path_factory: pytest.TempPathFactory, drawn: list) -> None:
    path = tmp_path_factory.mktemp("out") / "x.safetensors"
    tensors = {f"t{i}": (torch.randn(shape) * 4).to(dtype) for i, (dtype, shape) in enumerate(drawn)}
    done: list[int] = []
    with path.open("wb") as file:
        write(file, tensors, {"who": "mé"}, done.append)
    back = load_file(path)
    assert set(back) == set(tensors)
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name].float(), tensor.float())
    assert max(done, default=0) == size_bytes(tensors)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"who": "mé"}


def test_views_and_shared_memory_are_written_in_full(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {"a": whole, "b": whole.T, "c": whole[0].expand(2, 4)}
    with (tmp_path / "x.safetensors").open("wb") as file:
        write(file, tensors, {}, lambda _: None)
    back = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("tensor", [torch.ones(2, dtype=torch.complex64), torch.eye(3).to_sparse()])
def test_what_the_format_lacks_is_named(tmp_path: Path, tensor: torch.Tensor) -> None:
    with (tmp_path / "x").open("wb") as file, pytest.raises(WeightsError, match=r"odd\.weight is (complex64|sparse)"):
        write(file, {"odd.weight": tensor}, {}, lambda _: None)
