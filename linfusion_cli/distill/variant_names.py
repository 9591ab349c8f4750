"""The names of the attentions that can be distilled, known without torch."""

from __future__ import annotations

from itertools import product

LINEAR = "linear"
DECAY_NAMES = ("ssd", "gla", "rwkv6")  # of Mamba2, GLA and RWKV6
MIXERS = tuple(
    f"{decay}-{direction}{normalised}"
    for decay, direction, normalised in product(DECAY_NAMES, ("causal", "bidirectional"), ("", "-normalised"))
)
VARIANT_NAMES = (LINEAR, "unnormalised", "causal", *MIXERS)
