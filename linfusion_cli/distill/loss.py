"""The distillation loss: errors against the noise, the teacher's prediction and its attention outputs."""

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
    """The UNet's inputs and what it should predict.

    noisy:      noised latents, (batch, channels, height, width), height and width in latent pixels
    target:     what the teacher was trained to predict, in the shape of noisy: the noise, or the velocity v
    timesteps:  (batch,) int64, from 0 (no noise) to below the scheduler's num_train_timesteps
    embeddings: of the captions, (batch, tokens, dim)
    added:      for SD-XL "text_embeds" (batch, dim) and "time_ids" (batch, 6); empty for the other families
    """

    noisy: Tensor
    target: Tensor
    timesteps: Tensor
    embeddings: Tensor
    added: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Weights:
    """Factors of the terms of the loss; the defaults are those of LinFusion's training script.

    noise:        error against the target
    distillation: error against the teacher's prediction
    feature:      error of each attention's output against the teacher's
    """

    noise: float = 1.0
    distillation: float = 0.5
    feature: float = 0.5


class Recorder:
    """A context that keeps the first output of each module that runs in it."""

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
        """The recorded outputs, in the order of the modules. Raises KeyError if one of them did not run."""
        return [self._outputs[position] for position in range(len(self._modules))]


class Distiller:
    """Teacher and student in one UNet: LinFusion is unmounted for the teacher's pass. Only its weights are trained."""

    def __init__(self, unet: Any, linfusion: LinFusion, weights: Weights = Weights()) -> None:
        self.unet, self.linfusion, self.weights = unet, linfusion, weights
        unet.requires_grad_(False)
        linfusion.attentions.requires_grad_(True)
        linfusion.mount(unet)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, a float32 scalar with gradient, and it and its terms without, by name.

        Each term is a mean squared error; "feature" is the mean over the attentions. LinFusion (arXiv 2409.02097)
        sums them with the factors of Weights.

        The student stays mounted, because gradient checkpointing runs it again in the backward pass.
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
        """The prediction in float32, in the shape of noisy; each self-attention's output (batch, tokens, dim)."""
        with Recorder(self_attentions(self.unet).values()) as recorder:
            output = self.unet(
                batch.noisy, batch.timesteps, batch.embeddings, added_cond_kwargs=batch.added or None, return_dict=False
            )[0]
        return output.float(), recorder.outputs()
