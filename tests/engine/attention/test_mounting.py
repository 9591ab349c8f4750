"""Mounting on somebody else's UNet: what would be lost is refused, and the UNet stays as it was."""

from pathlib import Path

import pytest
from golden import golden_unet, load_golden

from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.engine.attention.mounting import first_lora_layer, has_linear_attention, mount_on
from linfusion_cli.errors import UsageError


def test_mounting_says_what_is_there_and_is_undone(data: Path) -> None:
    unet = golden_unet(*load_golden(data / "unet_sd15.safetensors"))
    assert not has_linear_attention(unet)
    mounted = mount_on(unet, LinFusion.load(data / "linfusion_sd15"))
    assert has_linear_attention(unet)
    assert first_lora_layer(unet) == ""
    mounted.unmount()
    assert not has_linear_attention(unet)


def test_offloaded_weights_are_refused(data: Path) -> None:
    unet = golden_unet(*load_golden(data / "unet_sd15.safetensors")).to("meta")
    with pytest.raises(UsageError, match=r"offloaded.*mount before"):
        mount_on(unet, LinFusion.load(data / "linfusion_sd15"))
    assert not has_linear_attention(unet)
