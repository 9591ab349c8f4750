"""What the PNG writer and the PNG reader both need to know of the format."""

from __future__ import annotations

CHANNELS = 3
