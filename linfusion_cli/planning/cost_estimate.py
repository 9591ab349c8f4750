"""What each phase of a render needs, in memory, disk and time: arithmetic over the stages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from itertools import combinations_with_replacement

from linfusion_cli.config.job import Job
from linfusion_cli.geometry import MULTIPLE_PX, Size
from linfusion_cli.images.input_image import InputImage
from linfusion_cli.planning.attention_scores import keeps_scores
from linfusion_cli.planning.memory_budget import CostCounter, Keep, StoreBudget
from linfusion_cli.planning.memory_model import (
    BYTES_OF,
    ModelBytes,
    card_denoising_bytes,
    card_encoding_bytes,
    image_bytes,
    model_bytes,
    unified_denoising_bytes,
    unified_encoding_bytes,
    unified_runtime_bytes,
)
from linfusion_cli.planning.model_shapes import Architecture, VaeShape
from linfusion_cli.planning.rank_share import RankShare, unet_share, vae_share
from linfusion_cli.planning.unet_cost import unet_cost
from linfusion_cli.planning.upscale_schedule import Bands, Stage
from linfusion_cli.planning.vae_cost import vae_cost
from linfusion_cli.system.device import Machine
from linfusion_cli.system.work import Work

OVERHEAD = 1.1  # what allocators keep beyond live tensors; measured, see docs/log.md
READ_BYTES_PER_SECOND = 1e9  # of weights, from files into memory; docs/log.md
LARGEST_ON_APPLE_BYTES = (1 << 32) - 1  # larger tensors come out wrong before macOS 15 (pytorch #124335)
LATENT_BYTES = 4 * 4  # four channels in float32
LATENT_COPIES = 8  # latents, noise, start, anchor, and the intermediate results of a step
IMAGE_BYTES = 3 * 4  # of a pixel in float32
NEARLY_AS_FAST = 1.1  # higher bands may take so many times as long as the fastest
# Computing activations again instead of storing them may slow the autoencoder down so many times:
SLOWDOWN_FOR_MEMORY = 1.4  # where that saves memory and no file is needed
SLOWDOWN_FOR_DISK = 1.05  # where files are needed anyway: they cost little
KEEP_LESS_TO_MORE: tuple[Keep, ...] = ("nothing", "sums", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One thing to do. `total` counts `unit` ("steps" or "rows").

    macs:       multiply-adds
    peak_bytes: the device's memory (on a CPU or a Mac: of the whole process) while it runs
    ram_bytes:  activations that wait in RAM beside an accelerator
    file_bytes: activations that wait in files
    work:       by the rates that its time rests on
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
    work: tuple[Work, ...] = ()


@dataclass(frozen=True, slots=True)
class Estimate:
    """Counts the phases of a job on a machine.

    resident:           all weights lie on the device, else a block's at a time
    disk_bytes:         free space for scratch files
    keep_text_encoders: the text and image encoders stay in RAM for the next image
    together:           UNet and VAE stay on the card while the next prompt is encoded
    ranks:              processes that make the image together: memory is that of the busiest, time that of all their
                        work on this machine
    rank_shares:        the rows that each of them gets in proportion to the others, () for equally many
    """

    job: Job
    machine: Machine
    architecture: Architecture
    dtype: str
    resident: bool = True
    disk_bytes: float = math.inf
    keep_text_encoders: bool = False
    together: bool = False
    ranks: int = 1
    rank_shares: tuple[int, ...] = ()

    @property
    def model(self) -> ModelBytes:
        """The bytes of the weights."""
        return model_bytes(
            self.architecture,
            self.dtype,
            controlnets=len(self.job.control_images),
            resident=self.resident,
            leaving=self.keep_text_encoders and not self.components_stay,
        )

    @property
    def keeps_scores(self) -> bool:
        """Whether softmax attention keeps its scores, as far as they are not limited."""
        return keeps_scores(self.machine, self.architecture.unet, self.dtype)

    @property
    def components_stay(self) -> bool:
        """Whether UNet and VAE stay where they are while the next prompt is encoded: in one memory they do anyway."""
        return self.keep_text_encoders and (self.machine.unified or self.together)

    def within(self, budget_bytes: int) -> Estimate:
        """The same, with UNet and VAE on a card beside the encoders where the budget allows that."""
        beside = card_encoding_bytes(self.model, together=True) <= budget_bytes
        return replace(self, together=self.keep_text_encoders and not self.machine.unified and beside)

    @property
    def denoising_bytes(self) -> float:
        """What the process (or the device) holds while an image is made, beside activations: runtime and weights."""
        if self.machine.unified:
            return unified_denoising_bytes(self.model, self._runtime_bytes, keep_text_encoders=self.keep_text_encoders)
        return card_denoising_bytes(self.model)

    @property
    def encoding_bytes(self) -> float:
        """What it holds while the prompt and an IP-Adapter's images are encoded."""
        if self.machine.unified:
            return unified_encoding_bytes(
                self.model, self._runtime_bytes, self.job.ip_images, keep_text_encoders=self.keep_text_encoders
            )
        return card_encoding_bytes(self.model, together=self.together)

    @property
    def _runtime_bytes(self) -> float:
        return unified_runtime_bytes(self.machine.kind, self.machine.imported_bytes)

    def least_bytes(self, stages: tuple[Stage, ...]) -> float:
        """The peak of these stages if no activation waits in memory."""
        return max(phase.peak_bytes for phase in self.phases(stages, self.budget(0, 0)))

    def budget(self, device_bytes: float, memory_bytes: float) -> StoreBudget:
        """A budget of so many bytes on the device and in RAM, with the job's scratch folder."""
        return StoreBudget(
            device_bytes,
            memory_bytes,
            self.job.scratch_folder,
            overlapped=self.machine.kind == "cuda",
            largest_device_bytes=LARGEST_ON_APPLE_BYTES if self.machine.kind == "mps" else math.inf,
        )

    def phases(self, stages: tuple[Stage, ...], budget: StoreBudget) -> tuple[Phase, ...]:
        """All phases in order; `budget` is for their activations."""
        rest = (phase for stage in stages for phase in self._stage(stage, budget, last=stage is stages[-1]))
        return (self._load(), *rest)

    def with_cheapest_keep(self, stage: Stage, *, last: bool, budget: StoreBudget) -> Stage:
        """The stage with what its autoencoder keeps: of the nearly fastest choices the smallest."""
        choices = [
            _VaeChoice.of(self, replace(stage, bands=replace(stage.bands, keep=keep)), last=last, budget=budget)
            for keep in _keeps(len(stage.bands.keep))
        ]
        possible = [choice for choice in choices if choice.file_bytes <= self.disk_bytes] or choices
        fastest = min(choice.seconds for choice in possible)
        good = [each for each in possible if not each.file_bytes and each.seconds <= SLOWDOWN_FOR_MEMORY * fastest]
        good = good or [each for each in possible if each.seconds <= SLOWDOWN_FOR_DISK * fastest]
        return min(good, key=lambda choice: (choice.peak_bytes + choice.file_bytes, choice.seconds)).stage

    def vae_phases(self, stage: Stage, budget: StoreBudget, *, last: bool) -> tuple[list[Phase], list[Phase]]:
        """The autoencoder's phases: before the denoising, and after it; empty where there is none."""
        in_pixels = self.job.settings.upscale.between == "pixel"
        encodes = self._starts_from_given(stage) or (stage.index > 0 and in_pixels)
        encode = [self._encode(stage, budget)] if encodes else []
        return encode, [self._decode(stage, budget, last=last)] if last or in_pixels else []

    def _load(self) -> Phase:
        start_seconds = self.machine.speed(self.dtype).start_seconds
        return Phase(
            name="load",
            stage=0,
            total=1,
            unit="steps",
            macs=0,
            peak_bytes=int(max(self.denoising_bytes, self.encoding_bytes)),
            ram_bytes=0,
            file_bytes=0,
            seconds=start_seconds + self.model.read / READ_BYTES_PER_SECOND,
        )

    def _stage(self, stage: Stage, budget: StoreBudget, *, last: bool) -> Iterator[Phase]:
        encode, decode = self.vae_phases(stage, budget, last=last)
        yield from encode
        if stage.steps:
            yield self._denoise(stage, budget)
        yield from decode if stage.steps or last else ()

    def _starts_from_given(self, stage: Stage) -> bool:
        """Whether a stage starts from the user's image: stage 0 redraws it, or stage 1 enlarges it."""
        start = self.job.start
        return start is not None and stage.index <= (0 if start.refined else 1)

    def _encode(self, stage: Stage, budget: StoreBudget) -> Phase:
        given = self._starts_from_given(stage)
        images = (self.job.start.image,) if given and self.job.start else ()
        counter = self._vae_cost(stage, budget, 0 if given else stage.before.area, encode=True)
        return self._phase("encode", stage, counter, images=images)

    def _decode(self, stage: Stage, budget: StoreBudget, *, last: bool) -> Phase:
        cost = self._vae_cost(stage, budget, 0 if last else stage.size.area, encode=False)
        written = last or self.job.stages_folder is not None
        held = self.job.file.held_bytes(stage.size) if written else 0
        phase = self._phase("decode", stage, cost)
        if self.machine.unified:
            return replace(phase, peak_bytes=phase.peak_bytes + held)
        return replace(phase, ram_bytes=phase.ram_bytes + held)

    def _denoise(self, stage: Stage, budget: StoreBudget) -> Phase:
        local = stage.steps + stage.guided_steps
        dilated = stage.dilated_steps * (1 + stage.guided_steps / stage.steps)
        branches = [
            self._phase("denoise", stage, self._unet_cost(stage, budget, dilation), passes, self.job.control_images)
            for dilation, passes in ((1, local), (stage.dilation, dilated))
            if passes
        ]
        return reduce(_joined, branches)

    def _unet_cost(self, stage: Stage, budget: StoreBudget, dilation: int) -> CostCounter:
        part = unet_share(stage, self.architecture.unet, self.ranks, dilation, self.rank_shares)
        cost = unet_cost(
            self.architecture.unet,
            stage.canvas.latent(),
            stage.bands.unet_latent,
            dilation,
            budget,
            BYTES_OF[self.dtype],
            linear=stage.attention == "linear",
            controlnets=len(self.job.control_images),
            guided=stage.guided_steps > 0,
            share=part.share,
            scores=self.keeps_scores,
        )
        cost.band_values += part.fetched_values
        cost.copied_bytes["memory"] += self.model.streamed
        return cost

    def _vae_cost(self, stage: Stage, budget: StoreBudget, waiting_px: float, *, encode: bool) -> CostCounter:
        """waiting_px: pixels of a float32 image that waits meanwhile."""
        vae, window = self.architecture.vae, self.job.settings.upscale.vae_window_latents
        part = vae_share(stage, vae, len(self.architecture.unet.channels), self.ranks, window, self.rank_shares)
        number_bytes = BYTES_OF[vae.dtype(self.dtype)]
        return _counted(vae, stage.canvas, stage.bands, window, budget, number_bytes, part, waiting_px, encode=encode)

    def _phase(
        self, name: str, stage: Stage, cost: CostCounter, passes: float = 1, images: tuple[InputImage, ...] = ()
    ) -> Phase:
        """cost: of one pass; images: the user's, whose pixels wait meanwhile."""
        steps, work = name == "denoise", work_of(cost, passes)
        return Phase(
            name=name,
            stage=stage.index,
            total=stage.steps if steps else stage.canvas.height,
            unit="steps" if steps else "rows",
            macs=cost.macs * passes,
            peak_bytes=self._peak_bytes(stage, cost, images),
            ram_bytes=int(cost.peak_bytes["memory"] + cost.buffer_bytes["memory"]) + self.model.pinned,
            file_bytes=int(cost.peak_bytes["file"]),
            seconds=work.seconds(self.machine.speed(self.dtype)),
            work=(work,),
        )

    def _peak_bytes(self, stage: Stage, cost: CostCounter, images: tuple[InputImage, ...]) -> int:
        """Of the device; where that is the RAM, the user's images lie there too, and are read before the work."""
        latents = LATENT_COPIES * LATENT_BYTES * stage.canvas.area / MULTIPLE_PX**2
        on_device = cost.buffer_bytes["device"] + cost.peak_bytes["device"]
        working = OVERHEAD * (cost.band_values * cost.number_bytes + on_device + latents)
        if self.machine.unified:
            waiting = image_bytes(images, reading=False)
            working = max(working + waiting, image_bytes(images, reading=True))
        return int(self.denoising_bytes + working)


@lru_cache(maxsize=4096)  # half of what the ways of one plan ask for has been asked before
def _counted(
    vae: VaeShape,
    canvas: Size,
    bands: Bands,
    window: int,
    budget: StoreBudget,
    number_bytes: int,
    part: RankShare,
    waiting_px: float,
    *,
    encode: bool,
) -> CostCounter:
    """One decode or encode while a float32 image of so many pixels waits. The counter is shared: read it only."""
    counter = CostCounter(budget, number_bytes, part.share)
    counter.allocate(int(IMAGE_BYTES * waiting_px) / counter.number_bytes)
    vae_cost(vae, canvas, bands.vae_px, bands.keep, window, counter, encode=encode)
    counter.band_values += part.fetched_values
    return counter


@dataclass(frozen=True, slots=True)
class _VaeChoice:
    """A stage, and the sum of its autoencoder's phases."""

    stage: Stage
    seconds: float
    peak_bytes: int
    file_bytes: int

    @staticmethod
    def of(estimate: Estimate, stage: Stage, *, last: bool, budget: StoreBudget) -> _VaeChoice:
        encode, decode = estimate.vae_phases(stage, budget, last=last)
        phases = [*encode, *decode]
        peak_bytes = max((phase.peak_bytes for phase in phases), default=0)
        file_bytes = max((phase.file_bytes for phase in phases), default=0)
        return _VaeChoice(stage, sum(phase.seconds for phase in phases), peak_bytes, file_bytes)


def work_of(cost: CostCounter, passes: float = 1) -> Work:
    """The work of so many passes: multiply-adds, values and calls, and copies after them, or beside them on a card."""
    return Work(
        macs=cost.macs * passes,
        values=cost.values * passes,
        calls=cost.calls * passes,
        link_bytes=cost.copied_bytes["memory"] * passes,
        file_bytes=cost.copied_bytes["file"] * passes,
        overlapped=cost.usage.budget.overlapped,
    )


def _joined(one: Phase, other: Phase) -> Phase:
    """One after the other, as one phase."""
    return replace(
        one,
        macs=one.macs + other.macs,
        seconds=one.seconds + other.seconds,
        work=(*one.work, *other.work),
        peak_bytes=max(one.peak_bytes, other.peak_bytes),
        ram_bytes=max(one.ram_bytes, other.ram_bytes),
        file_bytes=max(one.file_bytes, other.file_bytes),
    )


def _keeps(levels: int) -> Iterator[tuple[Keep, ...]]:
    """Choices of what to keep, less at higher resolutions, where there is most; the deepest level keeps its sums."""
    for keep in combinations_with_replacement(KEEP_LESS_TO_MORE, levels):
        if keep[-1] != "nothing":
            yield keep
