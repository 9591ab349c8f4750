"""Guidance: on in its interval, off outside, the same in one batch or two passes."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from linfusion_cli.engine.sampling import denoiser as module
from linfusion_cli.engine.sampling.band_guidance import Guidance
from linfusion_cli.engine.sampling.denoiser import Conditioning, Denoiser
from linfusion_cli.geometry import Size
from linfusion_cli.planning.render_plan import SamplerSettings
from linfusion_cli.planning.scheduler_choice import SchedulerChoice


class FakeUNet:
    """Predicts latents times the mean of the text; remembers what it was given."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        added: dict[str, Tensor] | None,
        dilation: int = 1,
        residuals: object = None,
    ) -> Tensor:
        self.calls.append({"batch": len(sample), "added": added, "dilation": dilation})
        return sample * text.mean((1, 2)).view(-1, 1, 1, 1)


SAMPLER = SamplerSettings(
    scheduler=SchedulerChoice.of("ddim"),
    steps=20,
    guidance_scale=5.0,
    guidance_interval=(0.4, 1.0),
    guidance_low=5.0,
    guidance_high=5.0,
)


def denoiser(**changes: Any) -> Denoiser:
    text = Conditioning(torch.full((1, 3, 4), 2.0), torch.full((1, 3, 4), 1.0), torch.zeros(1, 0), torch.zeros(1, 0))
    return dataclasses.replace(Denoiser(FakeUNet(), text, SAMPLER, Guidance(5.0, 5.0), 1000, Size(512, 256)), **changes)


@pytest.mark.parametrize(("timestep", "factor", "batches"), [(900, 6.0, [2]), (400, 6.0, [2]), (399, 2.0, [1])])
def test_guidance_acts_in_its_interval(timestep: int, factor: float, batches: list[int]) -> None:
    """Negative 1, positive 2, scale 5: 1 + 5 (2 - 1) = 6 with guidance, 2 without."""
    guided, latents = denoiser(), torch.randn(1, 4, 6, 5)
    assert torch.allclose(guided(latents, torch.tensor(timestep)), factor * latents)
    assert [call["batch"] for call in guided.unet.calls] == batches


def test_large_images_run_one_sample_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    guided, latents = denoiser(), torch.randn(1, 4, 6, 5)
    together = guided(latents, torch.tensor(900))
    monkeypatch.setattr(module, "BATCHED_LATENTS", 29)
    assert torch.equal(guided(latents, torch.tensor(900)), together)
    assert [call["batch"] for call in guided.unet.calls] == [2, 1, 1]


def test_scale_one_means_no_guidance() -> None:
    assert not denoiser(guidance=Guidance(1.0, 1.0)).guided(900)


def test_xl_is_told_the_size_and_the_pooled_text() -> None:
    text = Conditioning(torch.ones(1, 3, 4), torch.ones(1, 3, 4), torch.full((1, 7), 2.0), torch.full((1, 7), 1.0))
    guided = denoiser(conditioning=text)
    guided(torch.randn(1, 4, 6, 5), torch.tensor(900))
    added = guided.unet.calls[0]["added"]
    assert added["text_embeds"][:, 0].tolist() == [1.0, 2.0]  # negative first
    assert added["time_ids"].tolist() == [[256, 512, 0, 0, 256, 512]] * 2
