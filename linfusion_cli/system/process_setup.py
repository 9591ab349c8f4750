"""What a whole process is changed for: environment, heap, limits. Only the command and the batch worker own a process.

In somebody else's Python process (the public API) every function here does nothing: the host's settings stay.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from linfusion_cli.system import gc_pause

UNBOUNDED = 1024  # prepared convolutions: what the libraries keep by default
FEW_PREPARED, MANY_PREPARED = 32, 128  # a UNet on the whole image has some fifty
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
_STATE: dict[str, Any] = {"owned": False}


def own_process() -> None:
    """Says that this process is ours alone. The command and the batch worker call it, nobody else."""
    _STATE["owned"] = True


def owns_process() -> bool:
    """Whether own_process() was called."""
    return bool(_STATE["owned"])


def quiet_libraries(prepared_convolutions: int = UNBOUNDED) -> None:
    """Keeps torch and diffusers, before they are imported, from printing, running remote code and hoarding memory.

    prepared_convolutions: how many convolutions torch and oneDNN keep prepared, for the life of the process; they read
    it before the first one, so a later call may still change it
    """
    if not owns_process():
        return
    os.environ["DIFFUSERS_DISABLE_REMOTE_CODE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = os.environ["DIFFUSERS_VERBOSITY"] = "error"  # while they are imported
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # two prompts need no threads, which may be refused
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    if sys.platform == "darwin":  # what torch lacks for Apple's GPUs runs on the CPU, and torch says so
        os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    for cache_name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        if os.environ.setdefault(cache_name, str(prepared_convolutions)) == _STATE.get("prepared"):
            os.environ[cache_name] = str(prepared_convolutions)  # ours, not the user's
    _STATE["prepared"] = str(prepared_convolutions)


@contextmanager
def importing(prepared_convolutions: int = UNBOUNDED) -> Iterator[None]:
    """For the import of torch and diffusers: they leave no garbage, so in our own process none is looked for."""
    quiet_libraries(prepared_convolutions)
    if not owns_process():
        yield
        return
    from linfusion_cli.system import library_output  # it imports logging, which the help pages do not need

    library_output.route_libraries()
    with gc_pause.none_expected():
        yield
    library_output.route_libraries()


def end_quietly() -> None:
    """Lets the interpreter say nothing while it ends: without memory it complains of every object."""

    def close() -> None:
        sys.stderr = sys.__stderr__ = None  # type: ignore[misc]

    if owns_process():
        atexit.register(close)


def set_heap(mapped_bytes: int, kept_bytes: int) -> None:
    """One glibc heap for all threads: blocks above mapped_bytes are mapped, its free top is kept up to kept_bytes."""
    if owns_process() and (mallopt := getattr(libc(), "mallopt", None)):
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_THRESHOLD, mapped_bytes)
        mallopt(M_TRIM_THRESHOLD, kept_bytes)


def lift_pixel_limit() -> None:
    """Switches off Pillow's limit on image sizes, which is one for the whole process: we check a limit of our own."""
    if owns_process():
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = None


@cache
def libc() -> Any:
    """The C library on Linux, None elsewhere."""
    import ctypes  # the help pages need none of it

    return ctypes.CDLL(None) if sys.platform == "linux" else None
