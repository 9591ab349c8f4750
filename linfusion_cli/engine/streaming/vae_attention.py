"""The softmax attention in the middle of an autoencoder, over all latents or a window of rows, in little memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from linfusion_cli.engine.streaming import fused_softmax
from linfusion_cli.engine.streaming.row_source import Derived, Field, tokens_of
from linfusion_cli.geometry import Band, bands
from linfusion_cli.planning.rank_share import BLOCK_ROWS

SCORES = 1 << 24  # products of a query and a key that are alive at once


@dataclass(frozen=True, slots=True)
class Attended(Derived):
    """The output of a diffusers Attention with one head, for a field that is already normalised.

    window: the number of latents that a row attends to, at least; an image with no more gets exact attention.
    The rows of a block of BLOCK_ROWS attend to the same latents, so the result does not depend on the bands.
    fused:  no score is written to memory
    """

    attention: Any
    window: int
    fused: bool = False

    def reads(self, band: Band) -> tuple[tuple[Field, Band], ...]:
        blocks = _blocks(band)
        seen = Band(self._seen(blocks[0]).top, self._seen(blocks[-1]).bottom)
        return ((self.source, Band(min(seen.top, band.top), max(seen.bottom, band.bottom))),)

    def rows(self, band: Band) -> Tensor:
        parts = ((Band(max(block.top, band.top), min(block.bottom, band.bottom)), block) for block in _blocks(band))
        return torch.cat([self._rows(part, self._seen(block)) for part, block in parts], dim=2)

    def _rows(self, band: Band, seen: Band) -> Tensor:
        tokens = self.attention.to_q(tokens_of(self.source.rows(band)))
        queries = tokens.split(max(1, SCORES // self.width), dim=1)  # one part, unless the image is very wide
        step = max(1, SCORES // (queries[0].shape[1] * self.width))
        online = [RunningSoftmax.empty(query, float(self.attention.scale), fused=self.fused) for query in queries]
        for part in bands(seen.height, step):
            tokens = tokens_of(self.source.rows(Band(seen.top + part.top, seen.top + part.bottom)))
            key, value = self.attention.to_k(tokens), self.attention.to_v(tokens)
            for each in online:
                each.add(key, value)
        attended = torch.cat([each.result() for each in online], dim=1)
        out: Tensor = self.attention.to_out[1](self.attention.to_out[0](attended))
        return out.view(1, band.height, self.width, self.channels).permute(0, 3, 1, 2)

    def _seen(self, block: Band) -> Band:
        """The rows that a block of queries attends to: about `window` latents, around the block."""
        rows = max(block.height, -(-self.window // self.width))
        if rows >= self.height:
            return Band(0, self.height)
        top = min(max(0, (block.top + block.bottom - rows) // 2), self.height - rows)
        return Band(top, top + rows)


def _blocks(band: Band) -> list[Band]:
    """The blocks of BLOCK_ROWS that a band touches."""
    first, last = band.top // BLOCK_ROWS, -(-band.bottom // BLOCK_ROWS)
    return [Band(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS) for block in range(first, last)]


def products(query: Tensor, key: Tensor) -> Tensor:
    """query (1, queries, dim) times key (1, keys, dim), (1, queries, keys), in float32 at least.

    A softmax takes exp of them: rounded to half precision, a score of 30 is off by up to 6 % in bfloat16.
    """
    exact, keys = torch.promote_types(torch.float32, query.dtype), key.transpose(1, 2)
    if query.dtype == exact:
        return query @ keys
    if query.device.type == "cuda" and torch.version.hip is None:  # half in, float32 out, at the speed of half
        return torch.bmm(query, keys, out_dtype=exact)
    return query.to(exact) @ keys.to(exact)


@dataclass(slots=True)
class RunningSoftmax:
    """Softmax over keys that come in parts: sums are rescaled when a larger score turns up (arXiv 1805.02867).

    query:          (1, queries, dim), already scaled
    highest, total: (1, queries, 1), the largest score, and the sum of exp(score - highest)
    weighted:       (1, queries, dim), the sum of values, each times exp(score - highest); float32 at least
    fused:          parts are added by one kernel
    """

    query: Tensor
    highest: Tensor
    total: Tensor
    weighted: Tensor
    fused: bool = False

    @staticmethod
    def empty(query: Tensor, scale: float, *, fused: bool = False) -> RunningSoftmax:
        exact = query.to(torch.promote_types(torch.float32, query.dtype)) * scale
        nothing = exact.new_zeros(*exact.shape[:2], 1)
        return RunningSoftmax(exact.to(query.dtype), nothing - torch.inf, nothing, torch.zeros_like(exact), fused)

    def add(self, key: Tensor, value: Tensor) -> None:
        """Adds keys and values, each (1, keys, dim)."""
        if self.fused:
            self.highest, self.total = fused_softmax.add_keys(
                self.query, key, value, self.highest, self.total, self.weighted
            )
            return
        scores = products(self.query, key)
        highest = torch.maximum(self.highest, scores.amax(2, keepdim=True))
        scores = scores.sub_(highest).exp_()
        fade = (self.highest - highest).exp()
        self.total = self.total * fade + scores.sum(2, keepdim=True)
        self.weighted = self.weighted * fade + (scores.to(value.dtype) @ value).to(self.weighted.dtype)
        self.highest = highest

    def result(self) -> Tensor:
        """(1, queries, dim)."""
        return (self.weighted / self.total).to(self.query.dtype)
