"""The process that reads one pickle: `python -m linfusion_cli.convert.child FILE OUTPUT`; JSON lines on stdout."""

from __future__ import annotations

import json
import pickle
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from linfusion_cli.convert.confinement import ForbiddenError, forbid, limit
from linfusion_cli.convert.layouts import Weights, weights_of
from linfusion_cli.convert.writer import size_bytes, write
from linfusion_cli.errors import WeightsError

# Classes that known weights name beside their tensors. Each is read as Inert, which can do nothing.
INERT = (
    *("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint", "pytorch_lightning.callbacks.ModelCheckpoint"),
    *("lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint", "torch.nn.modules.container.ParameterDict"),
    *("omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig", "omegaconf.base.ContainerMetadata"),
    *("omegaconf.base.Metadata", "omegaconf.nodes.AnyNode", "argparse.Namespace", "pathlib.PosixPath"),
    *("pathlib.WindowsPath", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype"),
    *("typing.Any", "builtins.set", "_codecs.encode"),
)
GROWTH = 4  # what tensors that share their memory may add to the size of a file
PROGRESS_BYTES = 32 << 20


class Inert:
    """Stands in for a class that no weights depend on."""

    def __init__(self, *args: object, **options: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


def inert_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Each class to replace, with an Inert of its own."""
    return [(type("Inert", (Inert,), {"__module__": __name__}), name) for name in INERT]


def read(path: Path) -> Weights:
    """The weights of a pickle, mapped where its format allows that. Raises WeightsError that says what else it is."""
    mapped = zipfile.is_zipfile(path)
    try:
        with torch.serialization.safe_globals(inert_globals()):
            return weights_of(torch.load(path, map_location="cpu", weights_only=True, mmap=mapped))
    except pickle.UnpicklingError as error:
        raise WeightsError(_refused(str(error))) from error
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, OSError) as error:
        what = next(iter(str(error).splitlines()), "")[:150]
        if "TorchScript" in str(error):
            what = "a TorchScript program, which is code"
        raise WeightsError(f"not a file of weights, or a damaged one ({what or type(error).__name__})") from error


def _refused(text: str) -> str:
    """Which code a pickle asks for."""
    found = re.search(r"GLOBAL ([\w.]+)|(?:class|function|type|Unsupported \w+) ([\w.]+)", text)
    name = next((group for group in found.groups() if group), "") if found else ""
    if name:
        return f"it asks for the code {name}, which is not a part of weights. It was not run"
    return f"not a file of weights, or a damaged one ({next(iter(text.splitlines()), '')[:150]})"


def convert(source: Path, target: Path) -> None:
    """Reads one file and writes the other, telling of it on stdout."""
    file_bytes = source.stat().st_size
    limit(file_bytes)
    with target.open("wb") as file:
        forbid()
        weights = read(source)
        total = size_bytes(weights.tensors)
        if total > GROWTH * file_bytes + (1 << 20):
            raise WeightsError(
                f"it would grow from {file_bytes / 1e6:.1f} to {total / 1e6:.1f} MB: these are not plain weights"
            )
        shown = 0

        def progress(done: int) -> None:
            nonlocal shown
            if done - shown >= PROGRESS_BYTES or done == total:
                shown = done
                _tell(done_bytes=done, total_bytes=total)

        write(file, weights.tensors, weights.metadata, progress)
    _tell(tensors=len(weights.tensors), ignored=list(weights.ignored))


def _tell(**values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Exit code 1 after a line with the error, whatever it is: the parent has no other way to learn of it."""
    source, target = map(Path, sys.argv[1:3])
    try:
        convert(source, target)
    except WeightsError as error:
        _tell(error=str(error))
    except MemoryError:
        _tell(error="it needs more memory than weights of its size do")
    except ForbiddenError as error:
        _tell(error=f"reading it would have done something else ({error}). It was stopped")
    except Exception as error:  # a stranger's file may cause anything: a message, not a traceback
        _tell(error=f"can't be read ({type(error).__name__}: {next(iter(str(error).splitlines()), '')[:150]})")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
