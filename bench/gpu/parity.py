"""Do the same networks give the same numbers on the card? TF32 is off; the truth is the CPU's in float64.

An error is the norm of the difference over the norm of the truth. What each number format may cost is in TOLERANCES:
about three times what the same networks show on a CPU.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.gpu.case import ROOT, Case, Setting, attempt
from linfusion_cli.engine.attention.linear_attention import AttentionState, LinearAttention, feature_map
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.streaming.banded_unet import BandedUNet, PlainUNet
from linfusion_cli.engine.streaming.banded_vae import Sweeper
from linfusion_cli.engine.streaming.row_source import Parked
from linfusion_cli.planning.memory_budget import StoreBudget

sys.path.insert(0, str(ROOT / "tests"))  # the tiny networks, and what the official code made of them

from tiny import KEEPS, mounted, tiny_vae

FAMILIES = ("sd15", "sd21", "sdxl")
TOLERANCES = {torch.float64: 1e-9, torch.float32: 2e-5, torch.float16: 1e-2, torch.bfloat16: 6e-2}
MOST_LEVELS = 2  # of 255, of an image in float32
HEIGHT, WIDTH = 24, 20  # of latents
WAYS = {"whole": (0, 1), "bands of 5": (5, 1), "bands of 16": (16, 1), "dilation 3": (5, 3)}


def cases(setting: Setting) -> Iterator[Case]:
    exact_floats()
    for family in FAMILIES:
        for dtype in TOLERANCES:
            name = f"{family} UNet, {_name(dtype)}"
            yield attempt(name, partial(_unet, name, family, dtype, setting))
    for dtype in TOLERANCES:
        yield attempt("", partial(_attention, dtype, setting))
        yield attempt("", partial(_autoencoder, dtype, setting))
    yield attempt("many tokens", partial(_many_tokens, setting))
    yield attempt("where activations wait", partial(_tiers, setting))
    yield attempt("streamed weights", partial(_streamed, setting))
    yield attempt("a whole image", partial(_image, setting))


def exact_floats() -> None:
    """Switches TF32 off: ten bits of a product are no float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def error_of(found: Tensor, truth: Tensor) -> float:
    """The norm of the difference over that of the truth; infinite for what is no number."""
    difference = found.detach().double().cpu() - truth.detach().double().cpu()
    error = float(difference.norm() / truth.double().norm().cpu())
    return error if error == error else float("1e30")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _judged(name: str, dtype: torch.dtype, errors: dict[str, float], least: float = 0.0) -> Case:
    """least: what is allowed in any case."""
    allowed = max(TOLERANCES[dtype], least)
    return Case(name, all(error <= allowed for error in errors.values()), {**errors, "allowed": allowed})


def inputs_of(family: str, device: Any = "cpu", dtype: torch.dtype = torch.float64) -> tuple[Any, ...]:
    """A sample of latents, and the text that was recorded for the family."""
    _, tensors = mounted(family)
    torch.manual_seed(HEIGHT * WIDTH)
    sample = torch.randn(1, 4, HEIGHT, WIDTH, dtype=torch.float64)
    text = tensors["encoder_hidden_states"][:1]
    added = {name: tensors[name][:1].to(device, dtype) for name in ("text_embeds", "time_ids") if name in tensors}
    return sample.to(device, dtype), torch.tensor(321, device=device), text.to(device, dtype), added


@torch.inference_mode()
def predicted(
    unet: Any,
    inputs: tuple[Any, ...],
    band_rows: int,
    dilation: int = 1,
    store: ActivationStore | None = None,
    weights: Weights | None = None,
) -> Tensor:
    """A prediction in bands of so many rows, or of the whole image at once for 0 rows; nothing given is unlimited."""
    if not band_rows:
        return PlainUNet(unet)(*inputs, dilation)
    device = inputs[0].device
    store = store or ActivationStore.unlimited(device)
    return BandedUNet(unet, band_rows, store, weights or Weights(device, resident=True))(*inputs, dilation)


def tiny_on(family: str, setting: Setting, dtype: torch.dtype) -> Any:
    """A copy of the family's tiny UNet on the device."""
    return copy.deepcopy(mounted(family)[0]).to(setting.device, dtype)


def _unet(name: str, family: str, dtype: torch.dtype, setting: Setting) -> Case:
    unet, inputs = tiny_on(family, setting, dtype), inputs_of(family, setting.device, dtype)
    errors = {}
    for way, (rows, dilation) in WAYS.items():
        truth = predicted(mounted(family)[0], inputs_of(family), 0, dilation)
        errors[way] = error_of(predicted(unet, inputs, rows, dilation), truth)
    whole, banded = (predicted(unet, inputs, rows, 1) for rows in (0, 5))
    return _judged(name, dtype, {**errors, "bands against whole": error_of(banded, whole)})


def _attention(dtype: torch.dtype, setting: Setting) -> Case:
    """The linear attention against its formula with every pair of tokens (arXiv 2409.02097, eq. 4-6)."""
    torch.manual_seed(1)
    exact = LinearAttention(64, 4).double().eval()
    tokens = torch.randn(1, 300 if setting.quick else 2000, 64, dtype=torch.float64)
    with torch.inference_mode():
        truth = _every_pair(exact, tokens)
        found = copy.deepcopy(exact).to(setting.device, dtype)(tokens.to(setting.device, dtype))
    return _judged(f"linear attention, {_name(dtype)}", dtype, {"against every pair": error_of(found, truth)})


def _every_pair(layer: LinearAttention, x: Tensor) -> Tensor:
    query, key, value = (
        part.unflatten(-1, (layer.heads, -1)).transpose(1, 2)
        for part in (layer.to_q(x + layer.to_q_(x)), layer.to_k(x + layer.to_k_(x)), layer.to_v(x))
    )
    weights = feature_map(query) @ feature_map(key).transpose(-1, -2) / x.shape[1]
    attended = weights @ value / (weights.sum(-1, keepdim=True) + 1e-4)
    out: Tensor = layer.to_out[0](attended.transpose(1, 2).flatten(2))
    return out


def _many_tokens(setting: Setting) -> Case:
    """The sums over millions of tokens of half precision, small values among them: nothing is flushed to zero."""
    count, block = (1 << 14, 1 << 12) if setting.quick else (1 << 22, 1 << 16)
    found = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    truth, generator = found.clone(), torch.Generator().manual_seed(2)
    state: AttentionState | None = None
    for _ in range(count // block):
        key = (torch.rand(1, 1, block, 64, generator=generator) * 1e-3).half()
        value = torch.randn(1, 1, block, 64, generator=generator).half() + 0.5
        truth += (key.double().transpose(-1, -2) @ value.double()).sum(0, keepdim=True)
        if state is None:
            state = AttentionState.empty(1, torch.empty(1, 1, 64, dtype=torch.float16, device=setting.device))
        state.add(key.to(setting.device), value.to(setting.device), blocks=block >> 12)
    assert state is not None
    error = error_of(state.key_value, truth)
    return Case("many tokens, float16", error <= 1e-5, {"tokens": count, "error": error, "allowed": 1e-5})


def _autoencoder(dtype: torch.dtype, setting: Setting) -> Case:
    """The tiny autoencoder, with attention, in bands and with activations that are computed again."""
    vae = tiny_vae(attention=True).double()
    torch.manual_seed(3)
    latents = torch.randn(1, 4, 13, 9, dtype=torch.float64)
    image = torch.rand(1, 3, 52, 36, dtype=torch.float64) * 2 - 1
    with torch.inference_mode():
        decoded, encoded = vae.decode(latents).sample, vae.encode(image).latent_dist.mean
    here, errors = vae.to(setting.device, dtype), {}
    for keep in (KEEPS[0], KEEPS[4]):
        store = ActivationStore.unlimited(torch.device(setting.device))
        sweeper = Sweeper(here, 7, keep, 10**6, store, lambda _: None)
        rows = torch.cat([band for _, band in sweeper.decode(latents.to(setting.device, dtype))], dim=2)
        means = sweeper.encode(Parked.of(image.to(setting.device, dtype)))
        errors |= {f"decode {keep[0]}": error_of(rows, decoded), f"encode {keep[0]}": error_of(means, encoded)}
    return _judged(f"autoencoder in bands, {_name(dtype)}", dtype, errors, least=1e-6)  # its images are float32


def _tiers(setting: Setting) -> Case:
    """Slabs on the device, in RAM, in files, and in all three: the same bits, again and again."""
    device, dtype = torch.device(setting.device), torch.float32
    unet, inputs = tiny_on("sdxl", setting, dtype), inputs_of("sdxl", setting.device, dtype)
    beside, overlapped = (1e12 if setting.kind == "cuda" else 0.0), setting.kind == "cuda"
    budgets = {
        "RAM": StoreBudget(0, beside, setting.scratch, overlapped),
        "files": StoreBudget(0, 0, setting.scratch, overlapped),
        "mixed": StoreBudget(60_000, 60_000 if overlapped else 0, setting.scratch, overlapped),
    }
    truth, different = predicted(unet, inputs, 5, 1), []
    repeats = 2 if setting.quick else 20
    for name, budget in budgets.items():
        for _ in range(repeats):
            found = predicted(unet, inputs, 5, 1, store=ActivationStore(device, budget))
            if not torch.equal(found, truth):
                different.append(name)
                break
    return Case(
        "where activations wait", not different, {"repeats": repeats, "different": ", ".join(different) or "none"}
    )


def _streamed(setting: Setting) -> Case:
    """Weights that come layer by layer give the same bits as resident ones."""
    device = torch.device(setting.device)
    inputs, different = inputs_of("sdxl", setting.device, torch.float32), 0
    truth = predicted(tiny_on("sdxl", setting, torch.float32), inputs, 5, 1)
    weights = Weights.on(device, resident=False)
    unet = weights.move(copy.deepcopy(mounted("sdxl")[0]).float())
    repeats = 2 if setting.quick else 10
    for _ in range(repeats):
        different += not torch.equal(predicted(unet, inputs, 5, 1, weights=weights), truth)
    hits = weights.ahead.hits if weights.ahead is not None else 0
    return Case("streamed weights", not different, {"repeats": repeats, "different": different, "fetched ahead": hits})


def _image(setting: Setting) -> Case:
    """The built-in model from prompt to pixels in float32, on the CPU and on the device."""
    side = 128 if setting.quick else 384
    ours, theirs = (pixels(device, side, setting.scratch) for device in (setting.device, "cpu"))
    apart = (ours.double() - theirs.double()).abs()
    found = {"pixels": f"{side}x{side}", "levels apart at most": float(apart.max()), "on average": float(apart.mean())}
    return Case("a whole image, float32", float(apart.max()) <= MOST_LEVELS, {**found, "allowed": MOST_LEVELS})


def pixels(
    device: str,
    side_px: int,
    scratch: Path,
    changed: Callable[[Any], Any] = lambda plan: plan,
    notify: Callable[[Any], None] = lambda event: None,
) -> Tensor:
    """The final image of the built-in model on a device, uint8 (height, width, 3).

    changed: what is done to the plan before it runs; notify: gets the events
    """
    from linfusion_cli.config.request import Request
    from linfusion_cli.config.resolve import resolve
    from linfusion_cli.engine.pipeline import images
    from linfusion_cli.planning.planner import make_plan
    from linfusion_cli.system.device import find_machine

    request = Request(
        prompt="purple mountains at dusk, full moon, by a lake",
        preset="landscape",
        size=f"{side_px}x{side_px}",
        seed=12,
        steps=8,
        dtype="float32",
        output=scratch / "image.png",
        scratch_folder=scratch,
    )
    plan = changed(make_plan(resolve(request), replace(find_machine(device), speeds={})))
    rows: list[Any] = []
    for image in images(plan, notify):
        rows = list(image.rows)
    return torch.cat([torch.from_numpy(part) for part in rows])
