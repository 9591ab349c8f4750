"""Files of lycoris-lora for a few layers of the tiny models, with what lycoris-lora computes with them: tests/data.

`python tests/lycoris_files.py` writes them; it needs lycoris-lora (made with 4.1.3). Its networks are those that
kohya's trainer makes, with random factors; the outputs are of its own modules, in which every scale acts once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from families import FAMILIES, tiny_pipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

DATA = Path(__file__).parent / "data"
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "tucker": {"use_tucker": True},
    "scalar": {"use_scalar": True},
    "rslora": {"rs_lora": True},
    "norm": {"train_norm": True},
    "dora": {"dora_wd": True},
    "dora-input": {"dora_wd": True, "wd_on_output": False},
    "loha": {"algo": "loha"},
    "loha-tucker": {"algo": "loha", "use_tucker": True},
    "loha-dora": {"algo": "loha", "dora_wd": True},
    "lokr": {"algo": "lokr", "factor": 4},
    "lokr-factors": {"algo": "lokr", "factor": 2, "decompose_both": True},
    "lokr-tucker": {"algo": "lokr", "factor": 2, "use_tucker": True},
    "lokr-whole": {"algo": "lokr", "factor": -1, "full_matrix": True},
    "lokr-dora": {"algo": "lokr", "factor": 4, "dora_wd": True},
    "ia3": {"algo": "ia3"},
    "full": {"algo": "full"},
}
# Layers of the UNet and of each text encoder: a convolution, linear ones of self- and cross-attention, a norm.
UNET = ("mid_block.resnets.0.conv1", "mid_block.resnets.0.norm1")
UNET += tuple(f"mid_block.attentions.0.transformer_blocks.0.{name}" for name in ("attn1.to_q", "attn2.to_k"))
TEXT = ("encoder.layers.0.mlp.fc1", "encoder.layers.0.self_attn.q_proj")


def layers(pipeline: Any) -> dict[str, Any]:
    """The layers by "part:name"."""
    found = {f"unet:{name}": pipeline.unet.get_submodule(name) for name in UNET}
    for part in ("text_encoder", "text_encoder_2"):
        encoder = getattr(pipeline, part, None)
        inner = getattr(encoder, "text_model", encoder)
        found |= {f"{part}:{name}": inner.get_submodule(name) for name in TEXT} if encoder is not None else {}
    return found


def inputs(layer: Any, draw: torch.Generator) -> Tensor:
    """Something that the layer reads."""
    if layer.weight.ndim == 2:
        return torch.randn(2, layer.weight.shape[1], generator=draw)
    return torch.randn(1, layer.weight.shape[1 if layer.weight.ndim == 4 else 0], 3, 3, generator=draw)


def golden(family: str) -> dict[str, dict[str, dict[str, Tensor]]]:
    """Kind -> "file" by tensor, "inputs" and "outputs" by layer; "base" -> parameter ("weight", "bias") by layer."""
    found: dict[str, dict[str, dict[str, Tensor]]] = {}
    for name, tensor in load_file(DATA / f"lycoris_{family}.safetensors").items():
        kind, group, rest = name.split("/", 2)
        found.setdefault(kind, {}).setdefault(group, {})[rest] = tensor
    return found


def _network(pipeline: Any, options: dict[str, Any]) -> Any:
    from lycoris import kohya
    from lycoris.config import PRESET

    encoders = [getattr(pipeline, part) for part in ("text_encoder", "text_encoder_2") if hasattr(pipeline, part)]
    PRESET["few"] = {"enable_conv": True, "unet_target_module": [], "unet_target_name": list(UNET)}
    PRESET["few"] |= {
        "text_encoder_target_module": [],
        "text_encoder_target_name": [*TEXT, *(f"text_model.{name}" for name in TEXT)],
    }
    given: dict[str, Any] = {"algo": "lora", "conv_dim": 2, "conv_alpha": 1, "preset": "few"}
    texts: Any = encoders if len(encoders) > 1 else encoders[0]
    network = kohya.create_network(1.0, 2, 1.0, pipeline.vae, texts, pipeline.unet, **given | options)
    network.apply_to(texts, pipeline.unet, apply_text_encoder=True, apply_unet=True)
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.copy_(value * 1.3 if "dora_scale" in name else value + 0.3 * torch.randn_like(value))
    return network.eval()


@torch.no_grad()
def write(family: str) -> None:
    """Makes the file of a family."""
    torch.manual_seed(11)
    found: dict[str, Tensor] = {}
    for kind, options in KINDS.items():
        torch.manual_seed(FAMILIES.index(family))
        pipeline, draw = tiny_pipeline(family), torch.Generator().manual_seed(5)
        plain = layers(pipeline)
        given = {name: inputs(layer, draw) for name, layer in plain.items()}
        if kind == "lora":
            for name, layer in plain.items():
                found |= {f"base/{key}/{name}": value.clone() for key, value in layer.state_dict().items()}
        path = DATA / "made.safetensors"
        _network(pipeline, options).save_weights(str(path), torch.float32, {})
        found |= {f"{kind}/file/{name}": value for name, value in load_file(path).items()}
        path.unlink()
        for name, layer in plain.items():
            found[f"{kind}/inputs/{name}"] = given[name]
            found[f"{kind}/outputs/{name}"] = layer(given[name]).contiguous()
    save_file(found, DATA / f"lycoris_{family}.safetensors")


if __name__ == "__main__":
    for family in sys.argv[1:] or FAMILIES:
        write(family)
