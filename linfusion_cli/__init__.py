"""Very large images with Stable Diffusion and linear attention (LinFusion, arXiv 2409.02097).

The public names below are imported when they are first used: `import linfusion_cli` alone costs milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from linfusion_cli.api import generate, mount, mounted, plan, run_in_bands, stream

__version__ = "0.1.0"
__all__ = ["__version__", "generate", "mount", "mounted", "plan", "run_in_bands", "stream"]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(importlib.import_module("linfusion_cli.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
