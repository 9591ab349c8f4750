"""Runs a model with every convolution dilated, without changing the model (dilated sampling, arXiv 2310.07702)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class _Dilated(TorchFunctionMode):
    """Multiplies dilation and padding of every 2-D convolution called inside it."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.conv2d:
            return _dilated_conv2d(self.factor, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _dilated_conv2d(
    factor: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    def scaled(pair: tuple[int, int]) -> tuple[int, int]:
        return (pair[0] * factor, pair[1] * factor)

    return F.conv2d(input, weight, bias, stride, scaled(padding), scaled(dilation), groups)


def dilated(factor: int) -> AbstractContextManager[Any]:
    """A context in which every 2-D convolution is dilated by `factor` (1 changes nothing).

    Dilation belongs to the pass, not to the model: an exception inside leaves the model as it was.
    """
    return _Dilated(factor) if factor > 1 else nullcontext()
