"""A UNet whose forward runs in bands gives what it gave, in each family, with what pipelines pass along."""

from typing import Any

import pytest
import torch
from tiny import mounted

from linfusion_cli.engine.streaming.foreign_unet import forward_in_bands


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
@pytest.mark.parametrize("rows", [1, 5])
def test_it_equals_the_whole_unet(family: str, rows: int) -> None:
    unet, tensors = mounted(family)
    names = [name for name in ("text_embeds", "time_ids") if name in tensors]
    added = {name: tensors[name].double() for name in names}
    sample, text = tensors["sample"].double(), tensors["encoder_hidden_states"].double()
    more: dict[str, Any] = {"added_cond_kwargs": added}
    with torch.no_grad():
        whole = unet(sample, tensors["timestep"], text, **more).sample
        with forward_in_bands(unet, rows):
            banded = unet(sample, tensors["timestep"], text, **more).sample
            as_tuple = unet(sample, tensors["timestep"], text, return_dict=False, **more)
    assert torch.allclose(banded, whole, atol=1e-10, rtol=1e-10)
    assert torch.equal(as_tuple[0], banded)
    assert "forward" not in unet.__dict__


def test_residuals_of_a_controlnet_are_added() -> None:
    unet, tensors = mounted("sd15")
    sample, text = tensors["sample"].double(), tensors["encoder_hidden_states"].double()
    shapes: list[torch.Size] = []
    with torch.no_grad():
        down = _down_residuals(unet, sample, tensors["timestep"], text, shapes)
        middle = torch.randn(down[-1].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        more = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        whole = unet(sample, tensors["timestep"], text, **more).sample
        assert not torch.allclose(whole, unet(sample, tensors["timestep"], text).sample)
        with forward_in_bands(unet, 3):
            banded = unet(sample, tensors["timestep"], text, **more).sample
    assert torch.allclose(banded, whole, atol=1e-10, rtol=1e-10)


def _down_residuals(
    unet: Any, sample: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor, shapes: list[torch.Size]
) -> tuple[torch.Tensor, ...]:
    """Random tensors of the shapes of the skips, as hooks see them."""
    hooks = [unet.conv_in.register_forward_hook(lambda module, given, out: shapes.append(out.shape))]
    hooks += [
        block.register_forward_hook(lambda module, given, out: shapes.extend(skip.shape for skip in out[1]))
        for block in unet.down_blocks
    ]
    unet(sample, timestep, text)
    for hook in hooks:
        hook.remove()
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes)
