"""Convolutions of fields, each of which asks its source for the halo that it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from linfusion_cli.engine.memory.dtypes import for_sums
from linfusion_cli.engine.streaming.row_source import Derived, Field, Sized
from linfusion_cli.geometry import Band


@dataclass(frozen=True, slots=True)
class Convolved(Derived):
    """A convolution with zeros around the image. padding: (top, bottom, left, right), in rows and columns."""

    conv: nn.Conv2d
    padding: tuple[int, int, int, int]

    @staticmethod
    def same(source: Field, conv: nn.Conv2d) -> Convolved:
        """With the module's own symmetric padding."""
        vertical, horizontal = (int(p) for p in conv.padding)
        return Convolved(source, conv, (vertical, vertical, horizontal, horizontal))

    @property
    def channels(self) -> int:
        return self.conv.out_channels

    @property
    def height(self) -> int:
        padded = self.source.height + self.padding[0] + self.padding[1]
        return (padded - self.conv.kernel_size[0]) // self.conv.stride[0] + 1

    @property
    def width(self) -> int:
        padded = self.source.width + self.padding[2] + self.padding[3]
        return (padded - self.conv.kernel_size[1]) // self.conv.stride[1] + 1

    def reads(self, band: Band) -> tuple[tuple[Field, Band], ...]:
        window = self._window(band)
        return ((self.source, Band(max(window.top, 0), min(window.bottom, self.source.height))),)

    def _window(self, band: Band) -> Band:
        """The rows under the kernel, some of them perhaps beyond the image."""
        top = band.top * self.conv.stride[0] - self.padding[0]
        return Band(top, (band.bottom - 1) * self.conv.stride[0] - self.padding[0] + self.conv.kernel_size[0])

    def rows(self, band: Band) -> Tensor:
        top, bottom = (window := self._window(band)).top, window.bottom
        ((_, inside),) = self.reads(band)
        x = self.source.rows(inside)
        left, right = self.padding[2], self.padding[3]
        beyond = (inside.top - top, bottom - inside.bottom)
        if any(beyond) or left != right:
            x, left = F.pad(x, (left, right, *beyond)), 0
        return F.conv2d(x, self.conv.weight, self.conv.bias, self.conv.stride, (0, left))


@dataclass(frozen=True, slots=True)
class Convolution(Derived):
    """A convolution module, called as a whole (so a LoRA inside it works), on rows with a margin that is cut off again.

    The module pads its input with zeros: that is right at the image's edges, and elsewhere falls into the margin.
    dilation: the factor by which the pass multiplies the module's dilation and padding
    """

    conv: Any  # behaves like nn.Conv2d with an odd square kernel and padding to keep (or, strided, halve) the size
    dilation: int

    @property
    def channels(self) -> int:
        return int(self._shape.out_channels)

    @property
    def height(self) -> int:
        return -(-self.source.height // self._stride)

    @property
    def width(self) -> int:
        return -(-self.source.width // self._stride)

    @property
    def _stride(self) -> int:
        return int(self._shape.stride[0])

    @property
    def _shape(self) -> Any:
        """The convolution itself, where an adapter is wrapped around it."""
        return getattr(self.conv, "base_layer", self.conv)

    def reads(self, band: Band) -> tuple[tuple[Field, Band], ...]:
        stride, halo = self._stride, self._shape.kernel_size[0] // 2 * self.dilation
        margin = -(-halo // stride) * stride
        inside = Band(max(0, band.top * stride - margin), min(self.source.height, band.bottom * stride + margin))
        return ((self.source, inside),)

    def rows(self, band: Band) -> Tensor:
        ((_, inside),) = self.reads(band)
        rows: Tensor = self.conv(self.source.rows(inside))
        top = band.top - inside.top // self._stride
        return rows[:, :, top : top + band.height]


@dataclass(frozen=True, slots=True)
class Doubled(Sized):
    """Every row and column twice; the last ones once where the size is odd."""

    def reads(self, band: Band) -> tuple[tuple[Field, Band], ...]:
        return ((self.source, Band(band.top // 2, (band.bottom + 1) // 2)),)

    def rows(self, band: Band) -> Tensor:
        ((_, above),) = self.reads(band)
        doubled = F.interpolate(self.source.rows(above), scale_factor=2.0, mode="nearest")
        return doubled[:, :, band.top - 2 * above.top : band.bottom - 2 * above.top, : self.width]


@dataclass(frozen=True, slots=True)
class UpsampledConvolved(Derived):
    """A 3x3 convolution of the source with every row and column doubled, without the doubled image.

    A 3x3 kernel covers at most 2x2 different source positions, so each of the four phases (even or odd row, even or odd
    column) is a 2x2 convolution whose weights are sums: 16 multiplications instead of 36. A transposed convolution of
    stride 2 does the four in one call.
    kernel: (in channels, out channels, 4, 4)
    """

    kernel: Tensor
    bias: Tensor | None

    @staticmethod
    def of(source: Field, conv: nn.Conv2d) -> UpsampledConvolved:
        """For the convolution of a diffusers Upsample2D (3x3, stride 1, padding 1)."""
        weight = conv.weight.to(for_sums(conv.weight)).transpose(0, 1)
        last = conv.weight.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        kernel = _spread(_spread(weight, 2), 3).to(conv.weight.dtype).contiguous(memory_format=layout)
        return UpsampledConvolved(source, kernel, conv.bias)

    @property
    def channels(self) -> int:
        return self.kernel.shape[1]

    @property
    def height(self) -> int:
        return 2 * self.source.height

    @property
    def width(self) -> int:
        return 2 * self.source.width

    def reads(self, band: Band) -> tuple[tuple[Field, Band], ...]:
        first, last = band.top // 2, (band.bottom - 1) // 2
        return ((self.source, Band(max(first - 1, 0), min(last + 2, self.source.height))),)

    def rows(self, band: Band) -> Tensor:
        ((_, inside),) = self.reads(band)
        top, bottom = 2 * inside.top, 2 * inside.bottom
        # inside the image, two rows above and two below would need more of the source than was read: they are left out
        cut = top > 0 and bottom < self.height
        padding = (3, 1) if cut else (1, 1)
        doubled = F.conv_transpose2d(self.source.rows(inside), self.kernel, self.bias, stride=2, padding=padding)
        first = top + 2 * cut
        return doubled[:, :, band.top - first : band.bottom - first]


def _spread(weight: Tensor, axis: int) -> Tensor:
    """Three taps over doubled positions as the four of a transposed convolution, along one axis.

    They are what a position of the source gives to the doubled one before its own two, to these two, and to the next.
    """
    first, middle, last = weight.unbind(axis)
    return torch.stack((last, middle + last, first + middle, first), axis)
