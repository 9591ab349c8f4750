"""Runs somebody else's diffusers UNet in bands of rows, inside any pipeline, with the same numbers (design 4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from linfusion_cli.engine.compat_diffusers import UNet2DConditionOutput
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.streaming.banded_unet import BandedUNet, check
from linfusion_cli.engine.streaming.residuals import Residuals
from linfusion_cli.errors import UsageError

IGNORED_WITHOUT_VALUE = ("class_labels", "timestep_cond", "attention_mask", "encoder_attention_mask")


@dataclass(frozen=True, slots=True)
class BandedForward:
    """Called as UNet2DConditionModel.forward is, and equal to it; computes `rows` rows of each level at a time."""

    unet: Any
    rows: int

    @torch.no_grad()
    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        added_cond_kwargs: dict[str, Any] | None = None,
        down_block_additional_residuals: tuple[Tensor, ...] | None = None,
        mid_block_additional_residual: Tensor | None = None,
        down_intrablock_additional_residuals: tuple[Tensor, ...] | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,  # noqa: FBT001  diffusers' own signature
        **more: Any,
    ) -> Any:
        """sample (batch, channels, height, width), encoder_hidden_states (batch, tokens, dim) -> as diffusers returns.

        Raises UsageError, naming it, for an argument that bands can't honour.
        """
        _refuse_unsupported(more, cross_attention_kwargs)
        down, inside = down_block_additional_residuals or (), down_intrablock_additional_residuals or ()
        residuals = None
        if down or inside or mid_block_additional_residual is not None:
            residuals = Residuals.of(tuple(down), mid_block_additional_residual, tuple(inside))
        store = ActivationStore.unlimited(sample.device)
        banded = BandedUNet(self.unet, self.rows, store, Weights(sample.device, resident=True))
        moment = torch.as_tensor(timestep, device=sample.device)
        prediction = banded(sample, moment, encoder_hidden_states, added_cond_kwargs, residuals=residuals)
        return UNet2DConditionOutput(sample=prediction) if return_dict else (prediction,)


@contextmanager
def forward_in_bands(unet: Any, rows: int) -> Iterator[None]:
    """Inside, the UNet's own forward computes in bands of `rows` rows of latents; afterwards it is the old one.

    Raises UsageError for rows below 1, WeightsError for a UNet with blocks that bands don't know.
    """
    if rows < 1:
        raise UsageError(f"rows = {rows}: write 1 or more. Nearest: 1")
    check(unet)
    before = unet.__dict__.get("forward")
    unet.forward = BandedForward(unet, rows)
    try:
        yield
    finally:
        if before is None:
            del unet.forward
        else:
            unet.forward = before


def _refuse_unsupported(more: dict[str, Any], cross_attention_kwargs: dict[str, Any] | None) -> None:
    given = [name for name, value in more.items() if value is not None]
    if unknown := [name for name in given if name not in IGNORED_WITHOUT_VALUE]:
        raise UsageError(f"{unknown[0]}: a UNet in bands has no such argument")
    if given:
        raise UsageError(f"{given[0]}: a UNet in bands can't honour it. Leave it out, or run the UNet whole")
    if cross_attention_kwargs:
        name = next(iter(cross_attention_kwargs))
        raise UsageError(
            f"cross_attention_kwargs {name}: a UNet in bands can't honour it. Use pipe.set_adapters() instead"
        )
