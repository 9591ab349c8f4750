"""The names of the attentions that can be distilled. Imports no torch, so that the command line's help stays fast."""

from __future__ import annotations

from itertools import product

LINEAR = "linear"
DECAY_NAMES = ("ssd", "gla", "rwkv6")  # of Mamba2, GLA and RWKV6
MIXERS = tuple(
    f"{decay}-{direction}{normalised}"
    for decay, direction, normalised in product(DECAY_NAMES, ("causal", "bidirectional"), ("", "-normalised"))
)
VARIANT_NAMES = (LINEAR, "unnormalised", "causal", *MIXERS)
