"""What an image would send and take on several ranks, each on a device of its own: arithmetic over its plan."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from linfusion_cli.errors import UsageError
from linfusion_cli.planning.memory_model import BYTES_OF
from linfusion_cli.planning.model_shapes import UNetShape
from linfusion_cli.planning.rank_traffic import RankTraffic, unet_traffic
from linfusion_cli.planning.render_plan import RenderPlan
from linfusion_cli.planning.row_split import RowSplit, useful_ranks
from linfusion_cli.planning.unet_cost import LATENT_CHANNELS
from linfusion_cli.planning.upscale_schedule import Stage

WAIT_SECONDS = 5e-5  # until a small message has come, over a link within one machine or between neighbours


@dataclass(frozen=True, slots=True, kw_only=True)
class RankForecast:
    """An image by several ranks.

    sent_bytes:      by all ranks, in all passes of the UNet; what the autoencoder sends is not counted
    rank_bytes:      the most that one rank sends, on average over the ranks
    alone_seconds:   by one process, as the plan says; seconds: by the ranks, None where no link was given
    """

    ranks: int
    sent_bytes: int
    rank_bytes: int
    alone_seconds: float
    seconds: float | None

    @property
    def speed_up(self) -> float | None:
        return None if self.seconds is None else self.alone_seconds / self.seconds

    def as_dict(self) -> dict[str, Any]:
        """The forecast for JSON."""
        return {**asdict(self), "speed_up": self.speed_up}


def forecast(plan: RenderPlan, shape: UNetShape, ranks: int, link_bytes_per_second: float | None) -> RankForecast:
    """shape: of the plan's UNet; link_bytes_per_second: of each rank's link, in each direction.

    Raises UsageError for more ranks than have rows.
    """
    last, levels = plan.stages[-1], len(shape.channels)
    useful = useful_ranks(ranks, last.canvas.latent().height, levels, guided=_guided(last))
    if ranks > useful:
        raise UsageError(
            f"{ranks}: some would have no rows of {last.size} to compute. Nearest: {useful}", parameter="ranks"
        )
    stages = [_StageForecast(stage, shape, ranks, BYTES_OF[plan.dtype]) for stage in plan.stages]
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
        ranks=ranks, sent_bytes=sent, rank_bytes=sent // ranks, alone_seconds=plan.seconds, seconds=seconds
    )


def _guided(stage: Stage) -> bool:
    return bool(stage.steps) and stage.guided_steps == stage.steps


@dataclass(frozen=True, slots=True)
class _StageForecast:
    """A stage on the ranks: in two halves for guidance, where every step is guided and their number is even."""

    stage: Stage
    shape: UNetShape
    ranks: int
    number_bytes: int

    @property
    def halves(self) -> int:
        return 2 if self.ranks % 2 == 0 and _guided(self.stage) else 1

    @property
    def sent_bytes(self) -> int:
        passes = sum(count * self._traffic(dilation).total_bytes for dilation, count in self._passes())
        return int(passes + self._exchanged_bytes())

    def message_seconds(self, bytes_per_second: float) -> float:
        """The halves send beside each other."""
        group = self.ranks // self.halves
        passes = sum(
            count / self.halves * self._traffic(dilation).seconds(group, bytes_per_second, WAIT_SECONDS)
            for dilation, count in self._passes()
        )
        return passes + self._exchanged_bytes() / self.ranks / bytes_per_second

    def share(self, phase: str) -> float:
        """The part of a phase's work that the busiest rank does."""
        split = self.halves if phase == "denoise" else 1
        height = self.stage.canvas.latent().height
        rows = RowSplit.of(height, len(self.shape.channels), self.ranks // split).all(height)
        return max(band.height for band in rows) / height / split

    def _passes(self) -> list[tuple[int, float]]:
        """Dilation and number of the stage's passes, of both predictions."""
        stage = self.stage
        dilated = stage.dilated_steps * (1 + stage.guided_steps / stage.steps) if stage.steps else 0
        return [(1, stage.steps + stage.guided_steps), (stage.dilation, dilated)]

    def _traffic(self, dilation: int) -> RankTraffic:
        return unet_traffic(
            self.shape,
            self.stage.canvas.latent(),
            self.ranks // self.halves,
            number_bytes=self.number_bytes,
            linear=self.stage.attention == "linear",
            dilation=dilation,
        )

    def _exchanged_bytes(self) -> float:
        """Each rank of a half sends its prediction to the same one of the other half, in every pass of its own."""
        if self.halves == 1:
            return 0
        own = LATENT_CHANNELS * self.stage.canvas.latent().area * self.number_bytes
        return self.ranks * own * sum(count for _, count in self._passes()) / 2
