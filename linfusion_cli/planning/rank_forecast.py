"""What an image would send and take on several ranks, each on a device of its own: arithmetic over its plan."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from linfusion_cli.errors import UsageError
from linfusion_cli.geometry import Band, Size
from linfusion_cli.planning.memory_model import BYTES_OF
from linfusion_cli.planning.model_shapes import Architecture
from linfusion_cli.planning.rank_share import halves, unet_splits
from linfusion_cli.planning.rank_traffic import RankTraffic, unet_traffic
from linfusion_cli.planning.render_plan import RenderPlan
from linfusion_cli.planning.row_split import RowSplit, useful_ranks
from linfusion_cli.planning.unet_cost import LATENT_CHANNELS
from linfusion_cli.planning.upscale_schedule import Stage
from linfusion_cli.planning.vae_traffic import VaeTraffic

WAIT_SECONDS = 5e-5  # until a small message has come, over a link within one machine or between neighbours


@dataclass(frozen=True, slots=True, kw_only=True)
class RankForecast:
    """An image by several ranks.

    sent_bytes:      by all ranks, in all passes of the UNet, in the autoencoder, and to the one that writes the image
    rank_bytes:      the most that one rank sends, on average over the ranks
    rows_px:         of the image, that each rank makes
    alone_seconds:   by one process, as the plan says; seconds: by the ranks, None where no link was given
    """

    ranks: int
    sent_bytes: int
    rank_bytes: int
    rows_px: tuple[int, ...]
    alone_seconds: float
    seconds: float | None

    @property
    def speed_up(self) -> float | None:
        return None if self.seconds is None else self.alone_seconds / self.seconds

    def as_dict(self) -> dict[str, Any]:
        """The forecast for JSON."""
        return {**asdict(self), "speed_up": self.speed_up}


def forecast(plan: RenderPlan, shapes: Architecture, ranks: int, link_bytes_per_second: float | None) -> RankForecast:
    """shapes: of the plan's model; link_bytes_per_second: of each rank's link, in each direction.

    Raises UsageError for more ranks than have rows.
    """
    last, levels = plan.stages[-1], len(shapes.unet.channels)
    useful = useful_ranks(ranks, last.canvas.latent().height, levels, guided=halves(last, 2) == 2)
    if ranks > useful:
        raise UsageError(
            f"{ranks}: some would have no rows of {last.size} to compute. Nearest: {useful}", parameter="ranks"
        )
    before = [None, *(stage.canvas if stage.steps else None for stage in plan.stages)]
    stages = [
        _StageForecast(plan, stage, previous, shapes, ranks)
        for stage, previous in zip(plan.stages, before, strict=False)
    ]
    sent = sum(stage.sent_bytes for stage in stages)
    seconds = None
    if link_bytes_per_second is not None:
        by_stage = {stage.stage.index: stage for stage in stages}
        computed = sum(
            phase.seconds * (1 if phase.name == "load" else by_stage[phase.stage].share(phase.name))
            for phase in plan.phases
        )
        seconds = computed + sum(stage.message_seconds(link_bytes_per_second) for stage in stages)
    return RankForecast(
        ranks=ranks,
        sent_bytes=sent,
        rank_bytes=sent // ranks,
        rows_px=stages[-1].rows_px(),
        alone_seconds=plan.seconds,
        seconds=seconds,
    )


@dataclass(frozen=True, slots=True)
class _StageForecast:
    """A stage on the ranks: in two halves for guidance, where rank_share.halves() says so.

    before: the size of the image that was decoded before it, which the ranks have in parts; None for a user's
    """

    plan: RenderPlan
    stage: Stage
    before: Size | None
    shapes: Architecture
    ranks: int

    @property
    def halves(self) -> int:
        return halves(self.stage, self.ranks)

    @property
    def sent_bytes(self) -> int:
        passes = sum(count * self._traffic(dilation).total_bytes for dilation, count in self._passes())
        return int(passes + self._exchanged_bytes() + self._autoencoder().total_bytes)

    def message_seconds(self, bytes_per_second: float) -> float:
        """The halves send beside each other."""
        group = self.ranks // self.halves
        passes = sum(
            count / self.halves * self._traffic(dilation).seconds(group, bytes_per_second, WAIT_SECONDS)
            for dilation, count in self._passes()
        )
        autoencoder = self._autoencoder().seconds(self.ranks, bytes_per_second, WAIT_SECONDS)
        return passes + autoencoder + self._exchanged_bytes() / self.ranks / bytes_per_second

    def share(self, phase: str) -> float:
        """The part of one process's time that a phase takes: that of the busiest rank.

        Ranks with other shares are taken for faster or slower by as much; the plan's times are those of the first.
        """
        height, shares = self.stage.canvas.latent().height, self.plan.rank_shares or (1,) * self.ranks
        splits = self._unet_splits() if phase == "denoise" else (self._split(height),)
        bands = [band for split in splits for band in split.all(height)]
        busiest = max(band.height * shares[0] / share for band, share in zip(bands, shares, strict=True))
        stage = self.stage  # without guidance one half waits
        part = stage.steps / (stage.steps + stage.guided_steps) if phase == "denoise" and self.halves == 2 else 1.0
        return busiest / height * part

    def rows_px(self) -> tuple[int, ...]:
        """The rows of the image that each rank decodes, without the canvas around it."""
        top, height = self.stage.margin_px, self.stage.size.height
        inside = Band(top, top + height)
        bands = self._split(self.stage.canvas.latent().height).all(self.stage.canvas.height)
        return tuple(max(0, min(band.bottom, inside.bottom) - max(band.top, inside.top)) for band in bands)

    def _passes(self) -> list[tuple[int, float]]:
        """Dilation and number of the stage's passes, of both predictions."""
        stage = self.stage
        dilated = stage.dilated_steps * (1 + stage.guided_steps / stage.steps) if stage.steps else 0
        return [(1, stage.steps + stage.guided_steps), (stage.dilation, dilated)]

    def _traffic(self, dilation: int) -> RankTraffic:
        return unet_traffic(
            self.shapes.unet,
            self.stage.canvas.latent(),
            self._unet_splits()[0],  # both halves send alike
            number_bytes=BYTES_OF[self.plan.dtype],
            linear=self.stage.attention == "linear",
            dilation=dilation,
        )

    def _split(self, latent_rows: int) -> RowSplit:
        return RowSplit.of(latent_rows, len(self.shapes.unet.channels), self.ranks, self.plan.rank_shares)

    def _unet_splits(self) -> tuple[RowSplit, ...]:
        return unet_splits(self.stage, len(self.shapes.unet.channels), self.ranks, self.plan.rank_shares)

    def _autoencoder(self) -> RankTraffic:
        """Of the stage's decode and encode, where it has them, and of the rows that go to the writer."""
        plan, canvas = self.plan, self.stage.canvas
        phases = {phase.name for phase in plan.phases if phase.stage == self.stage.index}
        split = self._split(canvas.latent().height)
        vae, found = self.shapes.vae, []
        for name in phases & {"encode", "decode"}:
            passes = VaeTraffic(
                vae, canvas, split, BYTES_OF[vae.dtype(plan.dtype)], self.stage.bands.keep, plan.join.vae_window_latents
            )
            before = None if self.before is None else self._split(self.before.latent().height)
            found.append(passes.decode() if name == "decode" else passes.encode(self.before, before))
        if self.stage is plan.stages[-1]:
            others = canvas.height - split.own(0, canvas.height).height
            pixels = 3 * self.stage.size.width * others * plan.row_bits // 8
            found.append(RankTraffic(halo_bytes=0, statistics_bytes=0, gathered_bytes=pixels, waits=0))
        return sum(found, RankTraffic(halo_bytes=0, statistics_bytes=0, gathered_bytes=0, waits=0))

    def _exchanged_bytes(self) -> float:
        """Each rank of a half sends its predictions to the same one of the other half."""
        if self.halves == 1:
            return 0
        own = LATENT_CHANNELS * self.stage.canvas.latent().area * BYTES_OF[self.plan.dtype]
        return self.ranks * own * sum(count for _, count in self._passes()) / 2
