"""The autoencoder's attention in one kernel: where it may run, and bands that use it as the store and a trial say."""

from collections.abc import Iterator

import pytest
import torch
from plain_kernels import affine, row_moments
from tiny import tiny_vae
from torch import Tensor

from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.streaming import fused_layers, fused_softmax
from linfusion_cli.engine.streaming.banded_vae import Sweeper
from linfusion_cli.engine.streaming.fused_softmax import fault_of

CPU, CARD = torch.device("cpu"), torch.device("cuda:0")


@pytest.fixture(autouse=True)
def _no_trial_is_remembered() -> Iterator[None]:
    fault_of.cache_clear()
    yield
    fault_of.cache_clear()


def joint(
    query: Tensor, key: Tensor, value: Tensor, highest: Tensor, total: Tensor, weighted: Tensor
) -> tuple[Tensor, Tensor]:
    """What the kernel does, in plain operators."""
    scores = query.float() @ key.float().transpose(1, 2)
    higher = torch.maximum(highest, scores.amax(2, keepdim=True))
    fade, scores = (highest - higher).exp(), (scores - higher).exp()
    weighted.mul_(fade).add_(scores @ value.float())
    return higher, total * fade + scores.sum(2, keepdim=True)


def wrong(*given: Tensor) -> tuple[Tensor, Tensor]:
    highest, total = joint(*given)
    return highest, 1.1 * total


def failing(*given: Tensor) -> tuple[Tensor, Tensor]:
    raise RuntimeError("out of resource: shared memory, Required: 147456\nand all of the compiler's output")


@pytest.mark.parametrize(
    ("kernel", "fault"), [(joint, ""), (wrong, "they are off by"), (failing, "RuntimeError: out of resource")]
)
def test_a_trial_finds_what_is_wrong(kernel: object, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_softmax, "add_keys", kernel)
    monkeypatch.setattr(fused_softmax, "has_triton", lambda: True)
    pair = fused_softmax._pair
    monkeypatch.setattr(fused_softmax, "_pair", lambda device, dtype, dim: pair(CPU, dtype, dim))
    found = fault_of(CARD, torch.float16, 24)
    assert found.startswith(fault)
    assert bool(found) == bool(fault)
    assert "\n" not in found


def test_it_is_for_half_precision_on_cards_with_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fault_of(CARD, torch.float32, 512) == "no kernel for torch.float32"
    assert fault_of(CPU, torch.float16, 512) == "no Triton"
    monkeypatch.setattr(fused_softmax, "has_triton", lambda: False)
    assert fault_of(CARD, torch.bfloat16, 512) == "no Triton"


@torch.inference_mode()
@pytest.mark.parametrize(("fused", "fault", "used"), [(True, "", True), (True, "no Triton", False), (False, "", False)])
def test_bands_use_it_where_the_store_and_the_trial_allow_it(
    fused: bool, fault: str, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same image by both ways; bfloat16 rounds to a 256th of a value."""
    calls: list[int] = []

    def counted(*given: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(1)
        return joint(*given)

    monkeypatch.setattr(fused_layers, "row_moments", row_moments)
    monkeypatch.setattr(fused_layers, "affine", affine)
    monkeypatch.setattr(fused_softmax, "add_keys", counted)
    monkeypatch.setattr(fused_softmax, "fault_of", lambda device, dtype, dim: fault)
    vae, latents = tiny_vae(attention=True).bfloat16(), torch.randn(1, 4, 9, 6)

    def run(*, fused: bool) -> Tensor:
        store = ActivationStore.unlimited(CPU)
        store.fused = fused
        parts = Sweeper(vae, 7, ("sums", "all", "all"), 10**6, store, lambda _: None).decode(latents)
        return torch.cat([rows for _, rows in parts], dim=2)

    plain = run(fused=False)
    assert calls == []
    found = run(fused=fused)
    assert bool(calls) == used
    assert float((found - plain).abs().max() / plain.abs().max()) < 0.02
