"""Passes of every family's networks at their full width, as a card would run them: devices, formats, waits, sizes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from labels import CARD, LARGEST_INDEX, labelled

from bench.gpu.models import TOKENS
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import STREAMED, Weights
from linfusion_cli.engine.streaming.banded_unet import BandedUNet, PlainUNet

WITHOUT_CUDA = not torch.backends.cuda.is_built()
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(WITHOUT_CUDA, reason="needs a build of torch for CUDA: make test-labelled"),
]

LATENTS = (64, 64)  # height, width
BAND_ROWS = 32
SUMS_OF_ATTENTION = ("aten.bmm", torch.float32)  # as the paper's code has them


def arguments(unet: Any, dtype: torch.dtype) -> tuple[Any, ...]:
    """Of one pass, on the card."""

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(*shape, dtype=dtype, device=CARD)

    pooled = int(getattr(unet.config, "projection_class_embeddings_input_dim", 0) or 0)
    sizes = 6 * int(unet.config.addition_time_embed_dim or 0)
    added = {"text_embeds": empty(1, pooled - sizes), "time_ids": empty(1, 6)} if pooled else None
    text = empty(1, TOKENS, int(unet.config.cross_attention_dim))
    return empty(1, unet.config.in_channels, *LATENTS), torch.tensor(500, device=CARD), text, added


# number formats do not depend on the family
KINDS = [
    *((family, torch.float16) for family in ("builtin", "sd15", "sd21", "sdxl")),
    *(("sd15", dtype) for dtype in (torch.bfloat16, torch.float32)),
]


@pytest.mark.parametrize(("family", "dtype"), KINDS)
@pytest.mark.parametrize("way", ["whole", "bands", "streamed"])
def test_a_pass_of_the_unet(way: str, family: str, dtype: torch.dtype, make: Callable[..., Any]) -> None:
    with labelled() as seen, torch.inference_mode():
        unet, linfusion, _ = make(family, dtype)
        linfusion.mount(unet)
        weights = Weights.on(CARD, resident=way != "streamed")
        weights.move(unet)
        streamed = [value for name, value in unet.named_parameters() if set(STREAMED) & set(name.split("."))]
        lent = {"whole": 0, "bands": 0, "streamed": sum(value.nbytes for value in streamed)}[way]
        store = ActivationStore.unlimited(CARD)
        run = PlainUNet(unet) if way == "whole" else BandedUNet(unet, BAND_ROWS, store, weights)
        given = arguments(unet, dtype)
        held, copied = seen.held_bytes, seen.copied["cpu to cuda"]
        out = run(*given)
        assert (out.shape, out.device, out.dtype) == ((1, unet.config.out_channels, *LATENTS), CARD, dtype)
        # each layer once, and the one that is fetched ahead of the next pass at most
        assert lent <= seen.copied["cpu to cuda"] - copied <= 1.2 * lent
        assert seen.held_bytes - held <= out.nbytes + 512 + (0 if way != "streamed" else lent)
    assert seen.waited.total() == 0, "nothing in a pass may wait for the card"
    assert seen.copied["cuda to cpu"] == 0
    assert {found for _, found in seen.formats.keys() - {SUMS_OF_ATTENTION}} == {dtype}
    assert seen.largest.most_common(1)[0][1] < LARGEST_INDEX
