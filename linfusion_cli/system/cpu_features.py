"""What the processor computes in hardware, as Linux tells it."""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
X86 = ("x86_64", "AMD64")


def has_bfloat16(cpuinfo: Path = CPUINFO) -> bool | None:
    """Whether an x86 processor multiplies bfloat16 in hardware; None where nothing tells."""
    if platform.machine() not in X86:
        return None
    with suppress(OSError):
        for line in cpuinfo.read_text(encoding="ascii", errors="replace").splitlines():
            name, _, flags = line.partition(":")
            if name.strip() == "flags":
                return not BFLOAT16_FLAGS.isdisjoint(flags.split())
    return None
