"""The last stage of a 16384x8192 image by SD-XL, as a 24 GB card would run it: one prediction."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from labels import CARD, LARGEST_INDEX, labelled
from made_up import job, machine

from bench.gpu.models import TOKENS
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.streaming.banded_unet import BandedUNet
from linfusion_cli.planning.planner import Plan, make_plan

WITHOUT_CUDA = not torch.backends.cuda.is_built()
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(WITHOUT_CUDA, reason="needs a build of torch for CUDA: make test-labelled"),
]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(job("16384x8192", "sdxl-16k", kernels="plain"), machine("cuda:0", 24, ram_gigabytes=64))


def test_one_prediction(plan: Plan, make: Callable[..., Any]) -> None:
    stage = plan.stages[-1]
    latent = stage.canvas.latent()
    with labelled(24) as seen, torch.inference_mode():
        unet, linfusion, _ = make("sdxl", torch.float16)
        linfusion.mount(unet)
        weights = Weights.on(CARD, resident=plan.weights_resident)
        weights.move(unet)
        run = BandedUNet(unet, stage.bands.unet_latent, ActivationStore(CARD, plan.store_budget), weights)

        def empty(*shape: int) -> torch.Tensor:
            return torch.empty(*shape, dtype=torch.float16, device=CARD)

        pooled = int(unet.config.projection_class_embeddings_input_dim) - 6 * int(unet.config.addition_time_embed_dim)
        added = {"text_embeds": empty(1, pooled), "time_ids": empty(1, 6)}
        text = empty(1, TOKENS, int(unet.config.cross_attention_dim))
        seen.reset_peak()
        out = run(empty(1, 4, latent.height, latent.width), torch.tensor(500, device=CARD), text, added)
        assert out.shape == (1, 4, latent.height, latent.width)
    planned = [phase.peak_bytes for phase in plan.phases if phase.name == "denoise"]
    assert 0 < seen.peak_bytes <= planned[-1]
    assert seen.waited.total() == 0
    assert seen.largest.most_common(1)[0][1] < LARGEST_INDEX
