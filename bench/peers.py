"""SD-v1.5's UNet pass and decode on a CPU, beside the official code, diffusers and OpenVINO; prints two tables.

    python -m bench.peers [--official FOLDER] [--passes 1024x1024,2048x2048] [--decodes 512x512,1024x1024]
                          [--repeat 2] [--dtype float32] [--json FILE]

Random weights of full size (4 GB), all in one process and in turn, the fastest of --repeat runs each. Memory is the
process's peak in a run beyond what it held before it. --official is a checkout of Huage001/LinFusion; without it, or
without OpenVINO (`pip install openvino`), their rows are missing. Softmax attention is diffusers' own, on passes up to
1024x1024. Bands and what waits are those that the plan of such an image has.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.gpu.models import TOKENS, RandomModels, full_models
from bench.gpu.shapes import unchecked_plan
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.geometry import Size, parse_size
from linfusion_cli.planning.upscale_schedule import Bands
from linfusion_cli.system.device import find_machine
from linfusion_cli.system.process_setup import own_process

if TYPE_CHECKING:
    from torch import Tensor

MOST_SOFTMAX_PX = 1024 * 1024
WHOLE_ROWS = 32  # of a band, where the plan makes the image whole
Work = Callable[[], "Tensor"]


@dataclass(frozen=True)
class Row:
    """One way to do a piece of work. difference: from the first way's result, over its largest value."""

    work: str
    way: str
    seconds: float
    memory_gb: float | None
    difference: float


def measured(run: Work) -> tuple[Tensor, float, int | None]:
    """What a run gives, its seconds, and how far the process's memory rose above what it held; None off Linux."""
    from linfusion_cli.engine.memory.allocator import release_freed

    release_freed()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status_bytes("VmRSS")
    started = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - started
    peak = _status_bytes("VmHWM")
    return result, seconds, None if before is None or peak is None else max(0, peak - before)


def _status_bytes(name: str) -> int | None:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) << 10
    return None


def beside(work: str, ways: dict[str, Work], repeat: int) -> list[Row]:
    """All ways in turn, `repeat` times; the fastest run and the highest peak of each."""
    seconds: dict[str, float] = {}
    peaks: dict[str, int | None] = {}
    results: dict[str, Tensor] = {}
    for _ in range(repeat):
        for way, run in ways.items():
            results[way], taken, peak = measured(run)
            seconds[way] = min(seconds.get(way, taken), taken)
            peaks[way] = peak if peak is None else max(peaks.get(way) or 0, peak)
            print(f"{work}, {way}: {taken:.2f} s", file=sys.stderr, flush=True)
    return [
        Row(work, way, seconds[way], None if (peak := peaks[way]) is None else peak / 1e9, _apart(result, results))
        for way, result in results.items()
    ]


def _apart(result: Tensor, results: dict[str, Tensor]) -> float:
    first = next(iter(results.values())).float()
    return float((result.float() - first).abs().max() / first.abs().max())


@dataclass(frozen=True)
class Networks:
    """SD-v1.5's networks twice: as ours move them for this CPU, and as they are made for all others.

    preset: its plans have their bands
    """

    preset: str
    dtype: str
    unet: Any
    vae: Any
    linfusion: Any
    own_unet: Any
    own_vae: Any

    @staticmethod
    def of(models: RandomModels, preset: str, dtype: str) -> Networks:
        """Those of random models, and copies of them in the layouts that the engine gives its weights."""
        import torch

        from linfusion_cli.engine.loading.safetensors_loader import own_all

        unet, linfusion, vae = models.networks(dtype)
        copies = deepcopy(unet), deepcopy(vae)
        for network in (*copies, linfusion.attentions):
            own_all(network, torch.device("cpu"))
        return Networks(preset, dtype, unet, vae, linfusion, *copies)


def bands_of(size: Size, networks: Networks) -> Bands:
    """Of the last stage of an image of that size, as this machine's plan has them."""
    with tempfile.TemporaryDirectory() as folder:
        request = Request(
            prompt="noise",
            preset=networks.preset,
            size=str(size),
            dtype=networks.dtype,
            device="cpu",
            output=Path(folder, "unwritten.png"),
        )
        return unchecked_plan(resolve(request), find_machine("cpu")).stages[-1].bands


def passes(size: Size, networks: Networks, checkout: Path | None, repeat: int) -> list[Row]:
    """A UNet pass of one sample at an image's size."""
    import torch

    from linfusion_cli.engine.memory.activation_store import ActivationStore
    from linfusion_cli.engine.memory.weight_offload import Weights
    from linfusion_cli.engine.streaming.banded_unet import BandedUNet, PlainUNet

    unet, own, linfusion = networks.unet, networks.own_unet, networks.linfusion
    torch.manual_seed(0)
    sample = torch.randn(1, 4, size.height // 8, size.width // 8, dtype=unet.dtype)
    text, step = torch.randn(1, TOKENS, unet.config.cross_attention_dim, dtype=unet.dtype), torch.tensor(500)
    rows = bands_of(size, networks).unet_latent or WHOLE_ROWS
    store, weights = ActivationStore.unlimited(torch.device("cpu")), Weights(torch.device("cpu"), resident=True)

    def ours(network: Any) -> Tensor:
        linfusion.mount(own)
        try:
            return network(sample, step, text, None)  # type: ignore[no-any-return]
        finally:
            linfusion.unmount(own)

    def predicted(network: Any, given: Tensor) -> Tensor:
        return network(given, step, text, return_dict=False)[0]  # type: ignore[no-any-return]

    linear: dict[str, Work] = {
        f"ours, bands of {rows}": partial(ours, BandedUNet(own, rows, store, weights)),
        "ours, whole": partial(ours, PlainUNet(own)),
    }
    if checkout is not None:
        from bench.gpu.official import mounted, official_for

        sys.path.insert(0, str(checkout))
        official = official_for(linfusion, unet)

        def theirs() -> Tensor:
            with mounted(official, unet):
                return predicted(unet, sample)

        linear["official module"] = theirs
        with mounted(official, unet), suppress(ImportError):
            linear["official module, OpenVINO"] = in_openvino(one_tensor(unet, predicted), sample)
    softmax: dict[str, Work] = {}
    if size.area <= MOST_SOFTMAX_PX:
        softmax["diffusers"] = partial(predicted, unet, sample)
        with suppress(ImportError):
            softmax["diffusers, OpenVINO"] = in_openvino(one_tensor(unet, predicted), sample)
    with torch.inference_mode():
        found = beside(f"UNet pass {size}", linear, repeat)
        return found + beside(f"with softmax {size}", softmax, repeat)


def decodes(size: Size, networks: Networks, repeat: int) -> list[Row]:
    """A decode of one image."""
    import torch

    from linfusion_cli.engine.memory.activation_store import ActivationStore
    from linfusion_cli.engine.streaming.banded_vae import Sweeper

    vae = networks.vae
    torch.manual_seed(0)
    latents = torch.randn(1, 4, size.height // 8, size.width // 8, dtype=vae.dtype)
    bands, store = bands_of(size, networks), ActivationStore.unlimited(torch.device("cpu"))

    def ours() -> Tensor:
        sweeper = Sweeper(networks.own_vae, bands.vae_px, bands.keep, 10**9, store, lambda _: None)
        return torch.cat([rows for _, rows in sweeper.decode(latents)], dim=2)

    def decoded(network: Any, given: Tensor) -> Tensor:
        return network.decode(given, return_dict=False)[0]  # type: ignore[no-any-return]

    def theirs(*, tiled: bool) -> Tensor:
        vae.enable_tiling() if tiled else vae.disable_tiling()
        return decoded(vae, latents)

    vae.disable_tiling()

    ways: dict[str, Work] = {
        "diffusers": partial(theirs, tiled=False),
        f"ours, bands of {bands.vae_px} px": ours,
        "diffusers, tiled": partial(theirs, tiled=True),
    }
    with suppress(ImportError):
        ways["diffusers, OpenVINO"] = in_openvino(one_tensor(vae, decoded), latents)
    with torch.inference_mode():
        return beside(f"decode {size}", ways, repeat)


def one_tensor(module: Any, call: Callable[[Any, Tensor], Tensor]) -> Any:
    """The module as a function of one tensor that gives one tensor, as a converter wants it."""
    from torch import nn

    class OneTensor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, given: Tensor) -> Tensor:
            return call(self.module, given)

    return OneTensor().eval()


def in_openvino(module: Any, example: Tensor) -> Work:
    """The module, converted and compiled for this CPU, on the example. Raises ImportError without OpenVINO."""
    import openvino
    import torch

    with torch.inference_mode():
        model = openvino.convert_model(module, example_input=example, input=list(example.shape))
    precision = "bf16" if example.dtype == torch.bfloat16 else "f32"
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": str(torch.get_num_threads())}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    return lambda: torch.from_numpy(next(iter(compiled([example.numpy()]).values())))


def table(rows: list[Row]) -> str:
    """Markdown; times beside that of the first way of each piece of work."""
    first = {row.work: row.seconds for row in reversed(rows)}
    lines = ["| | | s | times the first | memory beyond the weights, GB | difference |", "|---|---|---|---|---|---|"]
    for row in rows:
        memory = "" if row.memory_gb is None else f"{row.memory_gb:.2f}"
        times = row.seconds / first[row.work]
        lines.append(f"| {row.work} | {row.way} | {row.seconds:.2f} | {times:.2f} | {memory} | {row.difference:.1e} |")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    def sizes(text: str) -> list[Size]:
        return [parse_size(part) for part in text.split(",") if part]

    parser = argparse.ArgumentParser(description="SD-v1.5 on a CPU beside its peers")
    parser.add_argument("--official", type=Path, help="a checkout of Huage001/LinFusion")
    parser.add_argument("--passes", type=sizes, default=sizes("1024x1024,2048x2048"))
    parser.add_argument("--decodes", type=sizes, default=sizes("512x512,1024x1024"))
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--json", type=Path, help="writes the rows there too, after each piece of work")
    return parser.parse_args()


def main() -> None:
    given = _arguments()
    own_process()
    models, presets = full_models("sd15", "cpu")
    networks = Networks.of(models, presets["4k"], given.dtype)
    work: list[Callable[[], list[Row]]] = [
        partial(passes, size, networks, given.official, given.repeat) for size in given.passes
    ]
    work += [partial(decodes, size, networks, given.repeat) for size in given.decodes]
    rows: list[Row] = []
    for one in work:
        rows += one()
        if given.json:
            given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
