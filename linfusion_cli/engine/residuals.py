"""What ControlNets add inside the UNet."""

from __future__ import annotations

from typing import Any


def combined(parts: list[Any]) -> Any:
    if not parts:
        return None
    down, middle = parts[0]
    for more, mid in parts[1:]:
        down, middle = [a + b for a, b in zip(down, more, strict=True)], middle + mid
    return down, middle
