"""The paper's ablations (arXiv 2409.02097): unnormalised, causal, and other token mixers.

For experiments; no preset uses them.
"""

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
    refuse_other_attention,
)
from linfusion_cli.engine.attention.linfusion import LinFusion, self_attentions
from linfusion_cli.errors import WeightsError, nearest
from linfusion_cli.files import replacing, write_atomically
from linfusion_cli.json_files import read_json

CONFIG, WEIGHTS = "variant.json", "variant.safetensors"  # not the official names: no loader takes it for LinFusion
CHUNK_TOKENS = 256


class UnnormalisedAttention(LinearAttention):
    """Linear attention with a fixed divisor: out = Q S / (L0 d), S = sum_j K_j^T V_j.

    d is the width of a head, L0 = train_tokens the tokens of this layer at the training size. Without the sum of scores
    as divisor, outputs grow with the number of tokens: the fault that the paper's normalisation removes.
    """

    train_tokens = 1

    def attend(self, hidden_states: Tensor, state: AttentionState) -> Tensor:
        """Reads the state of a whole image: (batch, tokens, dim) to the same shape."""
        query = self._query(hidden_states)
        scale = self.train_tokens * query.shape[-1]
        with torch.autocast(query.device.type, enabled=False):
            attended = query.to(state.key.dtype) @ (state.key_value / scale)
        return self._project(attended.to(query.dtype))


class CausalAttention(LinearAttention):
    """Normalised linear attention in which each token reads itself and those before it in raster order."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """hidden_states (batch, tokens, dim) to the same shape.

        Raises ValueError for cross-attention or a mask.
        """
        refuse_other_attention(hidden_states, encoder_hidden_states, attention_mask)
        query = self._query(hidden_states)
        return self._project(causal(query, *self.key_value(hidden_states)))


def causal(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal linear attention, sum_{j<=i} (Q_i.K_j) V_j / (sum_{j<=i} Q_i.K_j + eps) (arXiv 2006.16236).

    All are (batch, heads, tokens, dim). It is computed in chunks, in float32 at least, with linear memory.
    """
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
    """The attention of one of MIXERS: decay, direction, and RMSNorm as published or LinFusion's normalisation."""
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
    """The same weights in the attentions of a variant, one of VARIANTS; "linear" gives `linfusion` itself.

    Weights that only the variant has keep their initial values. The "unnormalised" variant runs the UNet once, to count
    the tokens at its training size.
    """
    if variant == LINEAR:
        return linfusion
    tokens = _train_tokens(unet)
    attentions = nn.ModuleList()
    for layer, (spec, plain) in enumerate(zip(linfusion.specs, linfusion.attentions, strict=True)):
        attention = VARIANTS[variant](spec.dim, spec.heads, spec.mid_dim)
        attention.load_state_dict(plain.state_dict(), strict=False)  # the decays are the variant's own
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
    """Tokens of each self-attention at the UNet's training size, by module name; runs the UNet once."""
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
    """Writes a variant's weights and its name into a folder, under file names that no LinFusion loader reads.

    Raises OSError if it can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in linfusion.attentions.state_dict().items()}
    with replacing(folder / WEIGHTS) as part:
        save_file(weights, part)
    write_atomically(folder / CONFIG, json.dumps({"variant": variant}) + "\n")


def load_variant(folder: Path, unet: Any, mid_dim_scale: int = 1) -> LinFusion:
    """Reads what `save_variant` wrote, for this UNet; mid_dim_scale as in distillation.

    Raises WeightsError if it is missing, damaged, of an unknown variant or of another UNet.
    """
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
