"""A whole image and the autoencoder as a card would run them: memory against the plan, and what waits."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from labels import CARD, LARGEST_INDEX, TO_PAGEABLE, labelled
from made_up import job, machine

from bench.gpu.models import full_models
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.pipeline import images
from linfusion_cli.engine.streaming.banded_vae import Sweeper
from linfusion_cli.engine.streaming.row_source import Parked
from linfusion_cli.events import Event, PhaseFinished
from linfusion_cli.planning.planner import make_plan

WITHOUT_CUDA = not torch.backends.cuda.is_built()
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(WITHOUT_CUDA, reason="needs a build of torch for CUDA: make test-labelled"),
]

WAITS_PER_STEP = 2  # the prediction and the latents are looked at for NaN; once more before the first step


def test_an_image_from_loading_to_the_last_row(make: Callable[..., Any]) -> None:
    plan = make_plan(job("768x512", "sd15-16k", steps=3, kernels="plain"), machine("cuda:0", 24, ram_gigabytes=64))
    planned = {(phase.name, phase.stage): phase for phase in plan.phases}
    waits: dict[tuple[str, int], Counter[str]] = {}
    with labelled(24) as seen:
        models, _ = full_models("sd15", "cuda:0")
        models.networks(plan.dtype)

        def see(event: Event) -> None:
            if not isinstance(event, PhaseFinished):
                return
            key = event.name, event.stage
            assert 0 < event.device_peak_bytes <= planned[key].peak_bytes, key
            assert seen.pinned_peak_bytes <= planned[key].ram_bytes, key
            waits[key] = Counter(seen.waited)
            seen.waited.clear()

        made = images(plan, see, model_cache=models)
        rows = {image.stage.index: sum(map(len, image.rows)) for image in made}
        last = Counter(seen.waited)
    assert rows == {stage.index: stage.size.height for stage in plan.stages}
    assert waits.keys() == planned.keys()
    for (name, stage), waited in waits.items():
        if name == "denoise":
            assert waited[TO_PAGEABLE] == 0
            assert waited.total() <= WAITS_PER_STEP * planned[name, stage].total + 1, waited
    copies = sum((each[TO_PAGEABLE] for each in waits.values()), last[TO_PAGEABLE])
    of_rows = sum(-(-stage.canvas.height // stage.bands.vae_px) for stage in plan.stages)
    assert copies == of_rows, "nothing but the image's rows comes back"
    assert {dtype for _, dtype in seen.formats} == {torch.float16, torch.float32}
    assert seen.largest.most_common(1)[0][1] < LARGEST_INDEX


@pytest.mark.parametrize("rows", [64, 512], ids=["bands", "whole"])
@pytest.mark.parametrize("family", ["builtin", "sd15"])
def test_the_autoencoder_both_ways(family: str, rows: int, make: Callable[..., Any]) -> None:
    with labelled() as seen, torch.inference_mode():
        _, _, vae = make(family, torch.float16)
        vae.to(CARD)
        keep = ("sums", *["all"] * (len(vae.config.block_out_channels) - 1))
        sweeper = Sweeper(vae, rows, keep, 10**6, ActivationStore.unlimited(CARD), lambda _: None)
        held = seen.held_bytes
        latents = torch.empty(1, vae.config.latent_channels, 64, 48, device=CARD)
        parts = [part.shape for _, part in sweeper.decode(latents)]
        scale = 2 ** (len(vae.config.block_out_channels) - 1)
        assert sum(shape[2] for shape in parts) == 64 * scale
        assert all(shape[3] == 48 * scale for shape in parts)
        assert len(parts) == -(-64 * scale // rows)
        found = sweeper.encode(Parked.of(torch.empty(1, 3, 64 * scale, 48 * scale, device=CARD)))
        assert (found.shape, found.device) == (latents.shape, CARD)
        del latents, found
        assert seen.held_bytes <= held + 2**20, "nothing stays"
    assert seen.waited.total() == 0
    assert seen.copied.total() == seen.copied["cpu to cuda"]
