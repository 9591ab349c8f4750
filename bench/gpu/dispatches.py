"""Counts what a piece of work asks of a device, without a device: calls, bytes, and waits of the host for it.

Each call of an operator that computes is at least one kernel; views are none. Bytes are those of the tensors that it
reads and writes, so they bound the time from below on a machine of known bandwidth.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITS = ("aten.item", "aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.equal", "aten.is_nonzero")
FREE = ("aten.empty", "aten.new_empty", "aten.dropout", "aten.promote_types", "aten.is_pinned", "prim.device")


class Dispatches(TorchDispatchMode):
    """A context that counts.

    calls: of operators that compute, by name; views: calls that only look at memory otherwise
    read_bytes, written_bytes: of all calls; waits: of the host for a result
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.views = self.waits = self.read_bytes = self.written_bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        result = function(*args, **(kwargs or {}))
        self.count(function, args, kwargs, result)
        return result

    def count(self, function: Any, args: Any, kwargs: Any, result: Any) -> bool:
        """Counts a call of an operator; returns whether it computes."""
        name = name_of(function)
        if name.startswith(WAITS):
            self.waits += 1
        elif name.startswith(FREE):
            pass
        elif _is_view(function, args, result):
            self.views += 1
        else:
            self.calls[name] += 1
            self.read_bytes += _bytes((args, kwargs))
            self.written_bytes += _bytes(result)
            return True
        return False

    @property
    def total(self) -> int:
        """All calls that compute."""
        return self.calls.total()


@cache
def name_of(function: Any) -> str:
    """ "aten.add", whichever of its forms."""
    return str(function).rsplit(".", 1)[0]


def tensors_in(tree: Any) -> list[Tensor]:
    """Every tensor among arguments or results."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _is_view(function: Any, args: Any, result: Any) -> bool:
    """Whether all that comes out is memory that went in, unchanged."""
    if function._schema.is_mutable:
        return False
    given, out = (tensors_in(tree) for tree in (args, result))
    return bool(out) and {_storage(one) for one in out} <= {_storage(one) for one in given}


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _bytes(tree: Any) -> int:
    """Each tensor once."""
    return sum(one.numel() * one.element_size() for one in {id(one): one for one in tensors_in(tree)}.values())
