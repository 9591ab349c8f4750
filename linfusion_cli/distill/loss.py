"""The distillation loss: noise error, distance from the teacher's prediction, distance between attention outputs."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from linfusion_cli.engine.attention.linfusion import LinFusion, self_attentions


@dataclass(frozen=True, slots=True)
class Batch:
    """What the UNet is asked.

    noisy, target: (batch, channels, height, width) in latents; target: noise, or velocity for models that predict that
    timesteps:     (batch,) int64
    embeddings:    (batch, tokens, dim)
    added:         SD-XL's "text_embeds" and "time_ids"; empty for the others
    """

    noisy: Tensor
    target: Tensor
    timesteps: Tensor
    embeddings: Tensor
    added: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each term counts; the official script's values."""

    noise: float = 1.0
    distillation: float = 0.5
    feature: float = 0.5


class Recorder:
    """Keeps what modules put out while it is open, in the order of the modules."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._modules = list(modules)
        self._outputs: dict[int, Tensor] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for position, module in enumerate(self._modules):
            handle = module.register_forward_hook(
                lambda _module, _input, output, position=position: self._outputs.setdefault(position, output)
            )
            self._stack.callback(handle.remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def outputs(self) -> list[Tensor]:
        """The recorded outputs; KeyError if a module was not run."""
        return [self._outputs[position] for position in range(len(self._modules))]


class Distiller:
    """Teacher and student in one UNet: the student's linear attentions are removed for the teacher's pass."""

    def __init__(self, unet: Any, linfusion: LinFusion, weights: Weights = Weights()) -> None:
        self.unet, self.linfusion, self.weights = unet, linfusion, weights
        unet.requires_grad_(False)
        linfusion.attentions.requires_grad_(True)
        linfusion.mount(unet)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum and its terms, each a mean of squares in float32 (LinFusion, arXiv 2409.02097, section 3.4).

        The student stays mounted afterwards, because gradient checkpointing runs it again in the backward pass.
        """
        expected, expected_features = self._teach(batch)
        prediction, features = self._predict(batch)
        pairs = zip(features, expected_features, strict=True)
        terms = {
            "noise": F.mse_loss(prediction, batch.target.float()),
            "distillation": F.mse_loss(prediction, expected),
            "feature": torch.stack([F.mse_loss(ours.float(), theirs.float()) for ours, theirs in pairs]).mean(),
        }
        weights = self.weights
        loss = (
            weights.noise * terms["noise"]
            + weights.distillation * terms["distillation"]
            + weights.feature * terms["feature"]
        )
        return loss, {"loss": loss.detach(), **{name: value.detach() for name, value in terms.items()}}

    @torch.no_grad()
    def _teach(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        self.linfusion.unmount(self.unet)
        try:
            return self._predict(batch)
        finally:
            self.linfusion.mount(self.unet)

    def _predict(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """The prediction (float32) and every self-attention's output (batch, tokens, channels)."""
        with Recorder(self_attentions(self.unet).values()) as recorder:
            output = self.unet(
                batch.noisy, batch.timesteps, batch.embeddings, added_cond_kwargs=batch.added or None, return_dict=False
            )[0]
        return output.float(), recorder.outputs()
