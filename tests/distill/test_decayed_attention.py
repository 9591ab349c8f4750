"""The mixers equal their recurrences, see what their direction lets them see, and are averages where normalised."""

import pytest
import torch
from torch import Tensor

from linfusion_cli.distill.decayed_attention import BACKWARD, FORWARD, DecayedAttention
from linfusion_cli.engine.attention.linear_attention import EPSILON, LinearAttention, feature_map

KINDS = ("ssd", "gla", "rwkv6")


def layer(decay: str, *, bidirectional: bool, normalised: bool) -> DecayedAttention:
    torch.manual_seed(1)
    made = DecayedAttention(16, 2, decay=decay, bidirectional=bidirectional, normalised=normalised).double()
    made.start(0.5)
    return made


def weights_between(attention: DecayedAttention, x: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """How much token t reads of token s, (heads, t, s), from the definition: product of the decays between them."""
    tokens, heads = x.shape[1], attention.heads
    result = torch.zeros(heads, tokens, tokens, dtype=torch.float64)
    bonus = attention._bonus(attention.decays[FORWARD])
    for t in range(tokens):
        for s in range(tokens):
            if s == t:
                scale = torch.ones_like(key[0, :, s]) if bonus is None else bonus
            elif s < t or BACKWARD in attention.decays:
                scale = _decay_between(attention, x, t, s, exclusive=bonus is not None)
            else:
                continue
            result[:, t, s] = (query[0, :, t] * scale * key[0, :, s]).sum(-1)
    return result


def _decay_between(attention: DecayedAttention, x: Tensor, reader: int, writer: int, *, exclusive: bool) -> Tensor:
    logs = attention.decays[FORWARD if writer < reader else BACKWARD](x)[0]
    step = 1 if writer < reader else -1
    last = reader if exclusive else reader + step
    between = list(range(writer + step, last, step))
    return logs[:, between].sum(1).exp()


@pytest.mark.parametrize("decay", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
@torch.no_grad()
def test_it_equals_weights_written_out(decay: str, bidirectional: bool, normalised: bool) -> None:
    attention = layer(decay, bidirectional=bidirectional, normalised=normalised)
    x = torch.randn(1, 12, 16, dtype=torch.float64)
    query, key, value = (
        attention._split(y)
        for y in (
            attention.to_q(x + attention.to_q_(x)),
            attention.to_k(x + attention.to_k_(x)),
            attention.to_v(x),
        )
    )
    if normalised:
        weights = weights_between(attention, x, feature_map(query), feature_map(key))
        mixed = (weights @ value[0]) / (weights.sum(-1, keepdim=True) + EPSILON)
    else:
        weights = weights_between(attention, x, query / 8**0.5, key)
        mixed = weights @ value[0]
        if decay == "ssd":
            mixed = mixed + attention.decays[FORWARD].skip.view(-1, 1, 1) * value[0]
        mixed = attention.norm(mixed)  # type: ignore[misc]
    assert torch.allclose(attention(x), attention._project(mixed[None]), atol=1e-9)


@pytest.mark.parametrize("decay", KINDS)
@torch.no_grad()
def test_one_direction_does_not_see_what_comes_later_and_two_do(decay: str) -> None:
    x = torch.randn(1, 100, 16, dtype=torch.float64)
    changed = x.clone()
    changed[:, 60:] += 1
    causal = layer(decay, bidirectional=False, normalised=True)
    both = layer(decay, bidirectional=True, normalised=True)
    assert torch.allclose(causal(x)[:, :60], causal(changed)[:, :60], atol=1e-12)
    assert not torch.allclose(both(x)[:, :60], both(changed)[:, :60], atol=1e-6)


@torch.no_grad()
def test_without_forgetting_two_directions_are_linfusion() -> None:
    attention = layer("ssd", bidirectional=True, normalised=True)
    for decay in attention.decays.values():
        decay.log_rate.fill_(-60.0)
    plain = LinearAttention(16, 2).double()
    plain.load_state_dict(attention.state_dict(), strict=False)
    x = torch.randn(2, 150, 16, dtype=torch.float64)
    # eps is added to the sum here, to the mean there
    assert torch.allclose(attention(x), plain(x), atol=1e-3)


def test_a_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="without a mask"):
        layer("gla", bidirectional=True, normalised=True)(torch.zeros(1, 2, 16), attention_mask=torch.zeros(1))
