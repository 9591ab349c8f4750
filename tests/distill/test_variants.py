"""The ablations equal their formulas token by token, and can't be mistaken for LinFusion weights."""

from pathlib import Path

import pytest
import torch

from linfusion_cli.distill.teacher import Teacher
from linfusion_cli.distill.variant_names import LINEAR, VARIANT_NAMES
from linfusion_cli.distill.variants import (
    CausalAttention,
    UnnormalisedAttention,
    _train_tokens,
    causal,
    load_variant,
    save_variant,
    varied,
)
from linfusion_cli.engine.attention.linear_attention import EPSILON, feature_map
from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.errors import WeightsError


def test_causal_reads_the_tokens_up_to_itself() -> None:
    torch.manual_seed(0)
    query, key = (torch.rand(2, 3, 700, 4, dtype=torch.float64) for _ in range(2))
    value = torch.randn(2, 3, 700, 4, dtype=torch.float64)
    fast = causal(query, key, value)
    for i in (0, 1, 255, 256, 511, 699):
        weights = (key[:, :, : i + 1] * query[:, :, i : i + 1]).sum(-1, keepdim=True)
        slow = (weights * value[:, :, : i + 1]).sum(2) / (weights.sum(2) + EPSILON)
        assert torch.allclose(fast[:, :, i], slow, atol=1e-10)


def test_a_causal_layer_does_not_see_what_comes_later() -> None:
    torch.manual_seed(0)
    attention, x = CausalAttention(8, 2), torch.randn(1, 300, 8)
    changed = x.clone()
    changed[:, 200:] += 1
    with torch.no_grad():
        before, after = attention(x), attention(changed)
    assert torch.allclose(before[:, :200], after[:, :200], atol=1e-6)
    assert not torch.allclose(before[:, 200:], after[:, 200:], atol=1e-3)


def test_without_normalisation_the_output_grows_with_the_image() -> None:
    torch.manual_seed(0)
    attention, x = UnnormalisedAttention(8, 2), torch.randn(1, 10, 8)
    attention.train_tokens = 10
    with torch.no_grad():
        once, twice = attention(x), attention(torch.cat([x, x], 1))[:, :10]
        bias = attention.to_out[0].bias
        q, k, v = (
            attention._split(y)
            for y in (attention.to_q(x + attention.to_q_(x)), attention.to_k(x + attention.to_k_(x)), attention.to_v(x))
        )
        slow = torch.einsum("bhid,bhjd,bhje->bhie", feature_map(q), feature_map(k), v) / (10 * 4)
    assert torch.allclose(once - bias, (twice - bias) / 2, atol=1e-5)
    assert torch.allclose(once, attention._project(slow), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [name for name in VARIANT_NAMES if name != LINEAR])
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_saved_variants_come_back_and_are_no_linfusion(
    variant: str, family: str, teachers: dict[str, Path], tmp_path: Path
) -> None:
    unet = Teacher.load(str(teachers[family]), torch.device("cpu")).pipeline.unet
    assert sorted(set(_train_tokens(unet).values())) == [16, 64]
    linfusion = varied(LinFusion.like(unet), variant, unet)
    save_variant(linfusion, variant, tmp_path)
    again = load_variant(tmp_path, unet)
    x = torch.randn(1, 64, 16)
    with torch.no_grad():
        assert torch.equal(again.attentions[0](x), linfusion.attentions[0](x))
    with pytest.raises(WeightsError):
        LinFusion.load(tmp_path)
    with pytest.raises(WeightsError):
        load_variant(tmp_path / "elsewhere", unet)
