"""A network runs whole until memory runs out; from that step on it runs in bands, and that is noted once."""

import pytest
import torch

from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.streaming.oom_fallback import WholeFirst
from linfusion_cli.planning.memory_budget import StoreBudget


class Networks:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.fits, self.calls = True, 0
        store = ActivationStore(torch.device("cpu"), StoreBudget.unlimited(), self.notes.append)
        self.first = WholeFirst(store, "the UNet")

    def whole(self) -> str:
        self.calls += 1
        if not self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return "whole"

    def run(self) -> str:
        return self.first.run(self.whole, lambda: "bands")


def test_bands_from_the_step_where_memory_ran_out() -> None:
    networks = Networks()
    assert networks.run() == "whole"
    networks.fits = False
    assert [networks.run() for _ in range(3)] == ["bands"] * 3
    assert networks.calls == 2, "whole is not attempted again"
    assert len(networks.notes) == 1
    assert networks.notes[0].startswith("the UNet on the whole image at once does not fit")


def test_other_errors_are_raised() -> None:
    def fail() -> str:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        Networks().first.run(fail, lambda: "bands")
