"""Which number formats a device computes in, seen on the meta device, which stands for a GPU."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class OnDevice(TorchDispatchMode):
    """A context that keeps the number formats of all tensors that come out of an operator on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        result = function(*args, **(kwargs or {}))
        self.dtypes |= {one.dtype for one in tree_leaves(result) if isinstance(one, Tensor) and one.is_meta}
        return result
