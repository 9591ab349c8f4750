"""What one of several ranks holds of an image: its rows of every activation, and rows of others during a sweep."""

from __future__ import annotations

from dataclasses import dataclass

from linfusion_cli.planning.model_shapes import UNetShape, VaeShape
from linfusion_cli.planning.row_split import RowSplit
from linfusion_cli.planning.upscale_schedule import Stage

FUSED_ROWS = 8  # that a chain of layers of the autoencoder reads beyond a row, where nothing waits between them
BLOCK_ROWS = 16  # of latents that attend to the same ones in the autoencoder


@dataclass(frozen=True, slots=True)
class RankShare:
    """share: the part of a slab's rows that the busiest rank stores, 0 to 1; fetched_values: the most of others' rows
    that it holds at a time."""

    share: float = 1.0
    fetched_values: float = 0.0


def halves(stage: Stage, ranks: int) -> int:
    """2 where one half of the ranks computes the prompt's predictions and the other the negative prompt's, else 1.

    So do two ranks at stages that one process would compute without bands, if any step is guided: in the others the
    second rank waits, which costs less than to split so few rows, and to wait for the other at every layer: see
    docs/log.md, 2026-11-29.
    """
    small = ranks == 2 and not stage.bands.unet_latent and stage.guided_steps > 0
    return 2 if ranks % 2 == 0 and (stage.is_guided_throughout or small) else 1


def for_ranks(stage: Stage, ranks: int) -> Stage:
    """The stage with the UNet in bands, which ranks divide among them, unless each computes whole predictions."""
    return stage if ranks == halves(stage, ranks) else stage.in_bands()


def unet_splits(stage: Stage, levels: int, ranks: int, shares: tuple[int, ...] = ()) -> tuple[RowSplit, ...]:
    """The rows of the ranks in the UNet: of each half, where there are two. shares: of all ranks, () for equal ones."""
    group, rows = ranks // halves(stage, ranks), stage.canvas.latent().height
    return tuple(RowSplit.of(rows, levels, group, shares[first : first + group]) for first in range(0, ranks, group))


def unet_share(stage: Stage, shape: UNetShape, ranks: int, dilation: int, shares: tuple[int, ...] = ()) -> RankShare:
    """Of the UNet's activations, in a pass of that dilation. shares: of the rows, () for equal ones."""
    if ranks == halves(stage, ranks):
        return RankShare()
    latent, channels = stage.canvas.latent(), shape.channels
    read = [
        (channels[min(level + 1, len(channels) - 1)] + width) * -(-latent.width >> level)
        for level, width in enumerate(channels)
    ]
    fetched = 2 * (dilation + 1) * max(read)
    if stage.attention != "linear":  # keys and values of all tokens
        fetched = max(fetched, 2 * channels[0] * latent.area)
    return RankShare(_largest(latent.height, unet_splits(stage, len(channels), ranks, shares)), fetched)


def vae_share(
    stage: Stage, shape: VaeShape, unet_levels: int, ranks: int, window: int, shares: tuple[int, ...] = ()
) -> RankShare:
    """Of the autoencoder's activations. window: how many latents its attention sees; shares: as of unet_share()."""
    if ranks == 1:
        return RankShare()
    latent, keep = stage.canvas.latent(), stage.bands.keep
    fetched = 0
    for level, channels in enumerate(shape.channels):
        if keep[level] != "nothing":
            reach = FUSED_ROWS if level and keep[level - 1] == "nothing" else 2
            fetched = max(fetched, 2 * reach * 2 * channels * (stage.canvas.width >> level))
    if shape.attention:
        seen = min(latent.area, window + 2 * BLOCK_ROWS * latent.width)
        fetched = max(fetched, shape.channels[-1] * seen)
    split = RowSplit.of(latent.height, unet_levels, ranks, shares)
    return RankShare(_largest(latent.height, (split,)), fetched)


def _largest(latent_rows: int, splits: tuple[RowSplit, ...]) -> float:
    """The part of the rows that the busiest rank has."""
    return max(band.height for split in splits for band in split.all(latent_rows)) / latent_rows
