"""What the kernels of linear attention can take is decided without Triton and without a card."""

import pytest
import torch

from linfusion_cli.engine.attention import fused_attention
from linfusion_cli.engine.attention.fused_attention import can_fuse


def test_what_the_kernels_cannot_take_is_left_to_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu = torch.empty(1, 4, 64, dtype=torch.float16)
    assert not can_fuse(on_cpu, 1)

    class OnCard:
        device = torch.device("cuda:0")

        def __init__(self, channels: int, dtype: torch.dtype) -> None:
            self.shape, self.dtype = (1, 4, channels), dtype

    monkeypatch.setattr(fused_attention, "has_triton", lambda: True)
    assert can_fuse(OnCard(64, torch.float16), 1)  # type: ignore[arg-type]
    assert not can_fuse(OnCard(512, torch.float16), 1)  # type: ignore[arg-type]
    assert not can_fuse(OnCard(64, torch.float64), 1)  # type: ignore[arg-type]
    monkeypatch.setattr(fused_attention, "has_triton", lambda: False)
    assert not can_fuse(OnCard(64, torch.float16), 1)  # type: ignore[arg-type]
