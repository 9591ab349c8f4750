"""What each phase of a render needs, in memory, disk and time: arithmetic over the stages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain, combinations_with_replacement

from linfusion_cli.config.input_images import InputImage
from linfusion_cli.config.job import Job
from linfusion_cli.geometry import MULTIPLE_PX
from linfusion_cli.planning.memory_budget import CostCounter, Keep, StoreBudget
from linfusion_cli.planning.model_shapes import Architecture
from linfusion_cli.planning.unet_cost import unet_cost
from linfusion_cli.planning.upscale_schedule import Stage
from linfusion_cli.planning.vae_cost import vae_cost
from linfusion_cli.system.device import Machine
from linfusion_cli.system.speed import Speed

BYTES_OF = {"float32": 4, "float16": 2, "bfloat16": 2}
# The interpreter with torch and diffusers, and what allocators keep beyond live tensors; measured, see docs/log.md.
RUNTIME_BYTES = {"cpu": 500e6, "cuda": 500e6, "mps": 800e6}
OVERHEAD = 1.1
READ_BYTES_PER_SECOND = 1e9  # weights into their places; docs/log.md
LATENT_COPIES = 8  # latents, noise, start, anchor and what a step makes of them, in float32
NEARLY_AS_FAST = 1.1  # higher bands may take so much longer than the fastest
WORTH_ITS_MEMORY = (
    1.4  # what is computed again may make the autoencoder so much slower, if it saves memory and no file is needed
)
WORTH_ITS_DISK = 1.05  # the same where files are needed anyway: they cost little
RICHNESS: tuple[Keep, ...] = ("nothing", "sums", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One thing to do. `total` counts `unit` ("steps" or "rows").

    peak_bytes: the device's memory (on the CPU: of the whole process) while it runs; ram_bytes: what waits in RAM beside
    an accelerator; file_bytes: what waits in files
    """

    name: str
    stage: int
    total: int
    unit: str
    macs: float
    peak_bytes: int
    ram_bytes: int
    file_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """Counts the phases of a job on a machine.

    resident: all weights lie on the device, else a block's at a time; disk_bytes: what is free for scratch files;
    keep_text_encoders: the text and image encoders stay in RAM after they have read, for the next image
    """

    job: Job
    machine: Machine
    architecture: Architecture
    dtype: str
    resident: bool = True
    disk_bytes: float = math.inf
    keep_text_encoders: bool = False

    @property
    def floor_bytes(self) -> float:
        """What the process (or the device) holds whenever it draws: runtime and weights."""
        unet, on_cpu = self.architecture.unet, self.machine.kind == "cpu"
        weights = unet.parameters + unet.linear_parameters if self.resident else unet.streamed_parameters
        weights += self._controlnets * (
            unet.controlnet_parameters if self.resident else 0
        )  # streamed: one block at a time, of either
        drawing = (weights + self.architecture.on_top.mounted_parameters) * BYTES_OF[self.dtype] + self._vae_bytes
        waiting = (
            self.architecture.on_top.held_bytes + self._text_encoder_bytes * self.keep_text_encoders if on_cpu else 0
        )
        return RUNTIME_BYTES[self.machine.kind] + drawing + waiting

    @property
    def reading_bytes(self) -> float:
        """What it holds while it reads a prompt: before what draws is loaded, or (on a CPU, if `keep_text_encoders`) beside it."""
        if self.machine.kind != "cpu":
            return RUNTIME_BYTES[self.machine.kind] + self._text_encoder_bytes
        images = max(
            (self._pixels((image,), reading=True) for image in self.job.ip_images), default=0
        )  # one after the other
        if self.keep_text_encoders:
            return self.floor_bytes + images
        on_top = self.architecture.on_top
        return (
            RUNTIME_BYTES["cpu"]
            + self._text_encoder_bytes
            + on_top.mounted_parameters * BYTES_OF[self.dtype]
            + on_top.held_bytes
            + images
        )

    @property
    def _vae_dtype(self) -> str:
        return self.architecture.vae.dtype(self.dtype)

    @property
    def _vae_bytes(self) -> int:
        return self.architecture.vae.parameters * BYTES_OF[self._vae_dtype]

    @property
    def _text_encoder_bytes(self) -> int:
        """What reads prompts, of words and of images."""
        return (self.architecture.text_parameters + self.architecture.on_top.text_encoder_parameters) * BYTES_OF[
            self.dtype
        ]

    @property
    def _read_bytes(self) -> float:
        """All weights that are read."""
        unet = self.architecture.unet
        numbers = (
            unet.parameters
            + unet.linear_parameters
            + self._controlnets * unet.controlnet_parameters
            + self.architecture.on_top.mounted_parameters
        )
        return numbers * BYTES_OF[self.dtype] + self._vae_bytes + self._text_encoder_bytes

    @property
    def _controlnets(self) -> int:
        return len(self.job.control_images)

    def narrowest_bytes(self, stages: tuple[Stage, ...]) -> float:
        """What these stages need with nothing waiting in memory."""
        return max(phase.peak_bytes for phase in self.phases(stages, self.room(0, 0)))

    def room(self, device_bytes: float, memory_bytes: float) -> StoreBudget:
        """StoreBudget for so much beside the scratch files."""
        return StoreBudget(device_bytes, memory_bytes, self.job.scratch_folder, overlapped=self.machine.kind == "cuda")

    def phases(self, stages: tuple[Stage, ...], store_budget: StoreBudget) -> tuple[Phase, ...]:
        """All phases in order, with `room` for what waits."""
        peak = int(max(self.floor_bytes, self.reading_bytes))
        seconds = self.machine.speed(self.dtype).start_seconds + self._read_bytes / READ_BYTES_PER_SECOND
        load = Phase(
            name="load",
            stage=0,
            total=1,
            unit="steps",
            macs=0,
            peak_bytes=peak,
            ram_bytes=0,
            file_bytes=0,
            seconds=seconds,
        )
        return (
            load,
            *(phase for stage in stages for phase in self._stage(stage, store_budget, last=stage is stages[-1])),
        )

    def keeping_little(self, stage: Stage, *, last: bool, store_budget: StoreBudget) -> Stage:
        """The stage with a way for the autoencoder that is nearly the fastest, and of these needs the least memory."""
        ways = [
            _Way.of(self, replace(stage, bands=replace(stage.bands, keep=keep)), last=last, store_budget=store_budget)
            for keep in _keeps(len(stage.bands.keep))
        ]
        possible = [way for way in ways if way.file_bytes <= self.disk_bytes] or ways
        fastest = min(way.seconds for way in possible)
        good = [way for way in possible if not way.file_bytes and way.seconds <= WORTH_ITS_MEMORY * fastest]
        good = good or [way for way in possible if way.seconds <= WORTH_ITS_DISK * fastest]
        return min(good, key=lambda way: (way.peak_bytes + way.file_bytes, way.seconds)).stage

    def _stage(self, stage: Stage, store_budget: StoreBudget, *, last: bool) -> Iterator[Phase]:
        encode, decode = self.around(stage, store_budget, last=last)
        yield from encode
        if stage.steps:
            yield self._denoise(stage, store_budget)
        yield from decode if stage.steps or last else ()

    def around(self, stage: Stage, store_budget: StoreBudget, *, last: bool) -> tuple[list[Phase], list[Phase]]:
        """The autoencoder's phases: before the denoising, and after it; none where there are none."""
        upscale, start = self.job.settings.upscale, self.job.start
        given = start is not None and stage.index <= (0 if start.refined else 1)  # it starts from the user's image
        encode, decode = [], []
        if given or (stage.index and upscale.between == "pixel"):
            counter = self._vae(stage, store_budget, 0 if given else stage.before.area, encode=True)
            encode.append(
                self._phase(
                    "encode",
                    stage,
                    stage.canvas.height,
                    "rows",
                    counter,
                    brought=(start.image,) if given and start else (),
                )
            )
        if last or upscale.between == "pixel":
            counter = self._vae(stage, store_budget, 0 if last else stage.size.area, encode=False)
            decode.append(self._phase("decode", stage, stage.canvas.height, "rows", counter))
        return encode, decode

    def _denoise(self, stage: Stage, store_budget: StoreBudget) -> Phase:
        shape, bands, number_bytes = self.architecture.unet, stage.bands.unet_latent, BYTES_OF[self.dtype]
        local = stage.steps + stage.guided_steps
        dilated = stage.dilated_steps * (1 + stage.guided_steps / stage.steps)
        phases = [
            self._phase(
                "denoise",
                stage,
                stage.steps,
                "steps",
                unet_cost(
                    shape,
                    stage.canvas.latent(),
                    bands,
                    dilation,
                    store_budget,
                    number_bytes,
                    linear=stage.attention == "linear",
                    controlnets=self._controlnets,
                    guided=stage.guided_steps > 0,
                ),
                passes,
                brought=self.job.control_images,
            )
            for dilation, passes in ((1, local), (stage.dilation, dilated))
            if passes
        ]
        return reduce(_added, phases)

    def _vae(self, stage: Stage, store_budget: StoreBudget, image_px: float, *, encode: bool) -> CostCounter:
        """image_px: pixels of a float32 image that waits meanwhile."""
        number_bytes = BYTES_OF[self._vae_dtype]
        held = int(3 * image_px * 4)
        counter = CostCounter(store_budget, number_bytes)
        counter.allocate(held / number_bytes)
        window = self.job.settings.upscale.vae_window_latents
        return vae_cost(
            self.architecture.vae, stage.canvas, stage.bands.vae_px, stage.bands.keep, window, counter, encode=encode
        )

    def _pixels(self, images: tuple[InputImage, ...], *, reading: bool) -> int:
        """Bytes of the user's images in the process, if that counts: as they wait, or while the one that needs most is read last."""
        if self.machine.kind != "cpu":
            return 0
        more = max((image.reading_bytes - image.held_bytes for image in images), default=0) if reading else 0
        return sum(image.held_bytes for image in images) + more

    def _phase(
        self,
        name: str,
        stage: Stage,
        total: int,
        unit: str,
        cost: CostCounter,
        passes: float = 1,
        brought: tuple[InputImage, ...] = (),
    ) -> Phase:
        """brought: the user's images whose pixels wait meanwhile."""
        latents = LATENT_COPIES * 4 * 4 * stage.canvas.area / MULTIPLE_PX**2
        working = OVERHEAD * (
            cost.band_values * cost.number_bytes + cost.buffer_bytes["device"] + cost.peak_bytes["device"] + latents
        )
        return Phase(
            name=name,
            stage=stage.index,
            total=total,
            unit=unit,
            macs=cost.macs * passes,
            peak_bytes=int(
                self.floor_bytes
                + max(working + self._pixels(brought, reading=False), self._pixels(brought, reading=True))
            ),
            ram_bytes=int(cost.peak_bytes["memory"] + cost.buffer_bytes["memory"]),
            file_bytes=int(cost.peak_bytes["file"]),
            seconds=_seconds(cost, self.machine.speed(self.dtype)) * passes,
        )


@dataclass(frozen=True, slots=True)
class _Way:
    """A stage, and what its autoencoder's phases come to."""

    stage: Stage
    seconds: float
    peak_bytes: int
    file_bytes: int

    @staticmethod
    def of(estimate: Estimate, stage: Stage, *, last: bool, store_budget: StoreBudget) -> _Way:
        phases = list(chain(*estimate.around(stage, store_budget, last=last)))
        peaks = (max((getattr(phase, name) for phase in phases), default=0) for name in ("peak_bytes", "file_bytes"))
        return _Way(stage, sum(phase.seconds for phase in phases), *peaks)


def _seconds(cost: CostCounter, speed: Speed) -> float:
    moving = (
        cost.copied_bytes["memory"] / speed.link_bytes_per_second
        + cost.copied_bytes["file"] / speed.file_bytes_per_second
    )
    return (
        cost.macs / speed.macs_per_second
        + cost.values / speed.values_per_second
        + cost.calls * speed.call_seconds
        + moving
    )


def _added(one: Phase, other: Phase) -> Phase:
    """One after the other, as one phase."""
    peaks = {name: max(getattr(one, name), getattr(other, name)) for name in ("peak_bytes", "ram_bytes", "file_bytes")}
    return replace(one, macs=one.macs + other.macs, seconds=one.seconds + other.seconds, **peaks)


def _keeps(levels: int) -> Iterator[tuple[Keep, ...]]:
    """Ways to keep, poorer at higher resolutions, where there is most; the deepest level always keeps its sums."""
    for keep in combinations_with_replacement(RICHNESS, levels):
        if keep[-1] != "nothing":
            yield keep
