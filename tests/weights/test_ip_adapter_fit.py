"""An IP-Adapter of another UNet is refused by its first tensor that does not fit."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from families import FAMILIES, tiny_unet
from safetensors.torch import load_file, save_file
from tiny_adapters import save_ip_adapter

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.ip_adapter_fit import _LAYER, KINDS, check_ip_adapter_fit, check_projection
from linfusion_cli.weights.safetensors_header import read_header


@pytest.mark.parametrize("family", FAMILIES)
def test_the_adapter_of_a_unet(family: str, tmp_path: Path) -> None:
    unet: Any = tiny_unet(family)
    file = save_ip_adapter(SimpleNamespace(unet=unet), tmp_path) / "ip-adapter.safetensors"
    check_ip_adapter_fit(read_header(file), unet.config)
    tensors = load_file(file)
    for other, what in (
        (tensors | {"ip_adapter.99.to_k_ip.weight": torch.ones(2, 2)}, "99.to_k_ip.weight has no place"),
        (tensors | {"ip_adapter.1.to_v_ip.weight": torch.ones(3, 3)}, r"1\.to_v_ip\.weight has shape \(3, 3\)"),
        ({name: value for name, value in tensors.items() if "1.to_v" not in name}, "is missing"),
    ):
        save_file(other, tmp_path / "b.safetensors")
        with pytest.raises(WeightsError, match=rf"b\.safetensors: for another model, or incomplete: .*{what}"):
            check_ip_adapter_fit(read_header(tmp_path / "b.safetensors"), unet.config)


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_of_a_projection_is_known(tmp_path: Path, kind: str) -> None:
    names = [*KINDS[kind], *(f"layers.0.{name}" for name in _LAYER if kind == "latents")]
    whole = {f"image_proj.{name}": torch.ones(1) for name in names}
    last = f"image_proj.{names[-1]}"
    for tensors, what in (
        (whole | {"image_proj.strange": torch.ones(1)}, r"image_proj\.strange is of no kind"),
        ({name: value for name, value in whole.items() if name != last}, "is missing"),
    ):
        save_file(whole, tmp_path / "a.safetensors")
        check_projection(read_header(tmp_path / "a.safetensors"))
        save_file(tensors, tmp_path / "a.safetensors")
        with pytest.raises(WeightsError, match=rf"a\.safetensors: its tensor .*{what}"):
            check_projection(read_header(tmp_path / "a.safetensors"))
