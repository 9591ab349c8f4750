"""The paper's ablations: unnormalised, causal, and other mixers of tokens. For experiments; no preset uses them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from linfusion_cli.distill.decayed_attention import DecayedAttention
from linfusion_cli.distill.loss import Recorder
from linfusion_cli.distill.variant_names import LINEAR, MIXERS
from linfusion_cli.engine.attention.linear_attention import (
    EPSILON,
    AttentionState,
    LinearAttention,
    feature_map,
    refuse_other_attention,
)
from linfusion_cli.engine.attention.linfusion import LinFusion, self_attentions
from linfusion_cli.errors import WeightsError, nearest
from linfusion_cli.files import replacing, write_atomically
from linfusion_cli.json_files import read_json

CONFIG, WEIGHTS = "variant.json", "variant.safetensors"  # not the official names: nobody shall load them as LinFusion
CHUNK_TOKENS = 256


class UnnormalisedAttention(LinearAttention):
    """out = Q S / (L0 d): without a normaliser the sums grow with the image.

    L0: tokens in training; d: the width of a head.
    """

    train_tokens = 1

    def attend(self, hidden_states: Tensor, state: AttentionState) -> Tensor:
        query = self._query(hidden_states)
        scale = self.train_tokens * query.shape[-1]
        with torch.autocast(query.device.type, enabled=False):
            attended = query.to(state.key.dtype) @ (state.key_value / scale)
        return self._project(attended.to(query.dtype))


class CausalAttention(LinearAttention):
    """Each token reads the tokens up to itself in raster order, as a state space model does."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        refuse_other_attention(hidden_states, encoder_hidden_states, attention_mask)
        query = self._query(hidden_states)
        key = feature_map(self._split(self.to_k(hidden_states + self.to_k_(hidden_states))))
        return self._project(causal(query, key, self._split(self.to_v(hidden_states))))


def causal(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """sum_{j<=i} (Q_i.K_j) V_j / (sum_{j<=i} Q_i.K_j + eps), all (batch, heads, tokens, dim), chunk by chunk."""
    batch, heads, _, dim = query.shape
    dtype = torch.promote_types(torch.float32, query.dtype)
    total, keys = (
        torch.zeros(batch, heads, dim, dim, dtype=dtype, device=query.device),
        torch.zeros(batch, heads, dim, dtype=dtype, device=query.device),
    )
    parts: list[Tensor] = []
    with torch.autocast(query.device.type, enabled=False):
        for q, k, v in zip(*(x.to(dtype).split(CHUNK_TOKENS, dim=2) for x in (query, key, value)), strict=True):
            scores = (q @ k.transpose(-1, -2)).tril()
            attended = scores @ v + q @ total
            normaliser = scores.sum(-1, keepdim=True) + q @ keys.unsqueeze(-1) + EPSILON
            parts.append(attended / normaliser)
            total, keys = total + k.transpose(-1, -2) @ v, keys + k.sum(2)
    return torch.cat(parts, dim=2).to(query.dtype)


def _mixer(name: str) -> Callable[..., LinearAttention]:
    """Mamba2, GLA or RWKV6, in one direction or two, as published (RMSNorm) or normalised as LinFusion is."""
    decay, direction, *normalised = name.split("-")
    bidirectional = direction == "bidirectional"
    return partial(DecayedAttention, decay=decay, bidirectional=bidirectional, normalised=bool(normalised))


VARIANTS: dict[str, Callable[..., LinearAttention]] = {
    LINEAR: LinearAttention,
    "unnormalised": UnnormalisedAttention,
    "causal": CausalAttention,
    **{name: _mixer(name) for name in MIXERS},
}


def varied(linfusion: LinFusion, variant: str, unet: Any) -> LinFusion:
    """The same weights in attentions of another kind, for this UNet at its training size."""
    if variant == LINEAR:
        return linfusion
    tokens = _train_tokens(unet)
    attentions = nn.ModuleList()
    for layer, (spec, plain) in enumerate(zip(linfusion.specs, linfusion.attentions, strict=True)):
        attention = VARIANTS[variant](spec.dim, spec.heads, spec.mid_dim)
        attention.load_state_dict(plain.state_dict(), strict=False)  # what only the variant has keeps its first values
        if isinstance(attention, UnnormalisedAttention):
            attention.train_tokens = tokens[spec.module_name]
        if isinstance(attention, DecayedAttention):
            attention.start(layer / max(1, len(linfusion.specs) - 1))
        attentions.append(attention)
    result = LinFusion(linfusion.specs)
    result.attentions = attentions
    return result


@torch.no_grad()
def _train_tokens(unet: Any) -> dict[str, int]:
    """Tokens that each self-attention sees at the UNet's training size, by running it once."""
    config, reference = unet.config, next(unet.parameters())
    sample = torch.zeros(
        1, config.in_channels, config.sample_size, config.sample_size, dtype=reference.dtype, device=reference.device
    )
    added = {}
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        added = {"text_embeds": sample.new_zeros(1, pooled), "time_ids": sample.new_zeros(1, 6)}
    originals = self_attentions(unet)
    with Recorder(originals.values()) as recorder:
        unet(sample, 1, sample.new_zeros(1, 1, config.cross_attention_dim), added_cond_kwargs=added or None)
    return {name: output.shape[1] for name, output in zip(originals, recorder.outputs(), strict=True)}


def save_variant(linfusion: LinFusion, variant: str, folder: Path) -> None:
    """Writes a variant under names that no LinFusion loader reads."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in linfusion.attentions.state_dict().items()}
    with replacing(folder / WEIGHTS) as part:
        save_file(weights, part)
    write_atomically(folder / CONFIG, json.dumps({"variant": variant}) + "\n")


def load_variant(folder: Path, unet: Any, mid_dim_scale: int = 1) -> LinFusion:
    """Reads what `save_variant` wrote, for this UNet; WeightsError if it is not there or does not fit."""
    try:
        variant = read_json(folder / CONFIG)["variant"]
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise WeightsError(f"{folder}: not a variant that linfusion distill wrote ({error})") from error
    if variant not in VARIANTS:
        raise WeightsError(f'{folder / CONFIG}: variant "{variant}" is unknown. {nearest(str(variant), VARIANTS)}')
    linfusion = varied(LinFusion.like(unet, mid_dim_scale), variant, unet)
    linfusion.load_state_dict(weights, str(folder / WEIGHTS))
    return linfusion
