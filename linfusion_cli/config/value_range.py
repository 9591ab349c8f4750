"""The range of a number: what it allows, in words, and the nearest allowed value."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`; both are allowed, unless `above` leaves `low` out."""

    low: float
    high: float
    above: bool = False
    multiple_of: int = 1  # of whole numbers

    def __contains__(self, value: float) -> bool:
        within = self.low <= value <= self.high and not (self.above and value == self.low)
        return within and (self.multiple_of == 1 or value % self.multiple_of == 0)

    @property
    def ends(self) -> str:
        """`from 1 to 500`; `above 0, up to 1`."""
        low, high = number_text(self.low), number_text(self.high)
        return f"above {low}, up to {high}" if self.above else f"from {low} to {high}"

    def moved(self, offset: int) -> Range:
        """The range of the numbers that are `offset` larger."""
        return self if not offset else replace(self, low=self.low + offset, high=self.high + offset)

    def words(self, kind: type) -> str:
        """`a whole number from 1 to 500`; `a multiple of 8 from 64 to 4096`."""
        if self.multiple_of > 1:
            return f"a multiple of {self.multiple_of} {self.ends}"
        return f"{'a whole number' if kind is int else 'a number'} {self.ends}"

    def nearest(self, value: float) -> str:
        """The nearest allowed value; "" where there is none, just above an open end."""
        clipped = min(max(value, self.low), self.high)
        if self.above and clipped == self.low:
            return ""
        if self.multiple_of > 1:
            clipped = round(clipped / self.multiple_of) * self.multiple_of
        return number_text(clipped)


def number_text(value: float) -> str:
    """A number as people write it: 0.4, 4, 1073741824."""
    return str(int(value)) if float(value).is_integer() else f"{value:g}"
