"""Which kernels linear attention runs on a device: Triton's once they have given its numbers there, else plain ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from linfusion_cli.engine.attention import fused_attention
from linfusion_cli.engine.attention.linear_attention import AttentionState, feature_map, split_heads
from linfusion_cli.engine.attention.linfusion import AttentionSpec, LinFusion

TOKENS, BLOCKS = 192, 2  # of the trial: more than a program takes at once, in more than one block
ALLOWED = 0.02  # of the largest value: rounding of any number format is less, a wrong kernel is off by far more


def choose_kernels(linfusion: LinFusion, kernels: str, device: torch.device, dtype: torch.dtype) -> str:
    """Gives the attentions the fused kernels where the plan has them and a trial on the device is right.

    kernels: "plain" or "fused". Returns a note where the plain operators run instead, because the card lacks what the
    others need (Triton, its compiler, a new enough generation); else "".
    """
    if kernels == "plain":
        return ""
    shapes = {(spec.heads, spec.dim): spec for spec in linfusion.specs}
    if fault := next(filter(None, (_fault(spec, device, dtype) for spec in shapes.values())), ""):
        return f"the fused kernels do not run on {device} ({fault}): the plain ones are used"
    for attention in linfusion.attentions:
        attention.kernels = fused_attention  # type: ignore[assignment]
    return ""


def _fault(spec: AttentionSpec, device: torch.device, dtype: torch.dtype) -> str:
    """Why the fused kernels can't be used for an attention; "" if they give what the plain operators give."""
    drawn = torch.randn(3, 1, TOKENS, spec.dim, generator=torch.Generator().manual_seed(0))
    query, key, value = drawn.to(device, dtype)
    if not fused_attention.can_fuse(query, spec.heads):
        return f"{spec.heads} heads of {spec.dim // spec.heads}" if fused_attention.has_triton() else "no Triton"

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        fused, plain = (AttentionState.empty(spec.heads, key) for _ in range(2))
        fused_attention.add_keys(fused, key, value, BLOCKS)
        found = fused_attention.read(fused, query)
        q, k, v = (split_heads(x, spec.heads) for x in (query, key, value))
        plain.add(feature_map(k), v, BLOCKS)
        yield found, plain.read(feature_map(q)).transpose(1, 2).flatten(2)

    return tried(pairs)


def tried(pairs: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> str:
    """Why kernels can't be used; "" if each tensor that they give is near the plain operators' one beside it."""
    try:
        apart = [(found.float() - plain.float()).abs().max() / plain.float().abs().max() for found, plain in pairs()]
        worst = float(torch.stack(apart).max())  # NaN if any is
    except Exception as error:  # compilers and drivers raise what they like
        return f"{type(error).__name__}: {error}".split("\n")[0][:100]
    return "" if worst <= ALLOWED else f"they are off by {worst:.0%}"
