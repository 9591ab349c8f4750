"""What the PNG writer and the PNG reader both need to know of the format."""

from __future__ import annotations

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = 3
