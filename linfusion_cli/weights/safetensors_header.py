"""Reads the header of a safetensors file: names, shapes, positions of its tensors; refuses pickles and torn files."""

from __future__ import annotations

import math
import re
import shlex
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from linfusion_cli.errors import WeightsError
from linfusion_cli.files import open_regular
from linfusion_cli.json_files import LIMIT_BYTES, parse_json, read_json
from linfusion_cli.weights.config_values import shown

MOST_DIMENSIONS = 8  # of a tensor; the product of a hundred thousand sides would take minutes
CONVOLUTION = 4  # dimensions of its weight
ENDING = ".safetensors"
INDEX_ENDING = ".safetensors.index.json"
STEMS = ("diffusion_pytorch_model", "model")
VARIANT = re.compile(r"(?:diffusion_pytorch_model|model)\.(?:safetensors\.index\.)?(\w+)\.(?:safetensors|json)")
FOREIGN = {b"GGUF": "a GGUF file (quantised)", b"PK\x03\x04": "a zip archive or pickle"}
FOREIGN |= dict.fromkeys((b"<!DOC", b"<!doc", b"<html", b"<HTML"), "a web page, not the file that it links to")
FOREIGN |= {b"version ": "a Git LFS pointer, not the file itself", b"\x80": "a pickle", b"\x89PNG": "a PNG image"}
FOREIGN |= {b"\x93NUMPY": "a NumPy array", b"\x89HDF": "an HDF5 file (Keras)", b"\xff\xd8\xff": "a JPEG image"}
FOREIGN |= {b"{": "a JSON text", b"\x1f\x8b": "a gzip archive", b"7z\xbc\xaf": "a 7z archive", b"Rar!": "a RAR archive"}
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
LEAST_BYTES = 10  # of a file: the length of its header, and {}
LARGEST_HEADER_BYTES = LIMIT_BYTES  # the format allows 100 MB; the largest of a known model has 0.5 MB
DTYPE = re.compile(r"[A-Z][A-Z0-9_]{1,15}")  # how formats are named, those of newer versions too
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16}
BITS |= {"I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a file: number format (as safetensors names it), shape, and first byte and byte after the last."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A file's tensors by name, in the order of the file, and its metadata."""

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]

    @property
    def parameters(self) -> int:
        return sum(math.prod(info.shape) for info in self.tensors.values())

    @property
    def size_bytes(self) -> int:
        """Of all tensors, as they are stored."""
        return sum(info.end - info.begin for info in self.tensors.values())


def read_header(path: Path) -> Header:
    """The header of a safetensors file, checked against the file's size.

    Raises WeightsError for a pickle (with what to do instead), for another format, and for a torn or damaged file.
    """
    refuse_pickle(path)
    try:
        with open_regular(path) as file:
            start = file.read(8)
            size = path.stat().st_size
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(LARGEST_HEADER_BYTES, size - 8):
                raise WeightsError(_no_header(path, start, size))
            text = file.read(length)
    except OSError as error:
        raise WeightsError(f"{path}: can't be read ({error.strerror})") from error
    return _parsed(path, text, size)


def raw_header(path: Path) -> bytes:
    """The bytes of a file's header and its length, at most LARGEST_HEADER_BYTES; empty for a file that is gone."""
    try:
        with open_regular(path) as file:
            start = file.read(8)
            return start + file.read(min(int.from_bytes(start, "little"), LARGEST_HEADER_BYTES))
    except FileNotFoundError:
        return b""


def _no_header(path: Path, start: bytes, size: int) -> str:
    """What a file is that does not begin as safetensors files do."""
    if path.suffix.lower() == ".onnx":
        return f"{path}: an ONNX file, which linfusion can't read. Take the {ENDING} file of the same model"
    length = int.from_bytes(start, "little") if len(start) == 8 else 0
    if size == 0:
        return f"{path}: an empty file. {_again(path)}"
    if size < LEAST_BYTES or size - 8 < length <= LARGEST_HEADER_BYTES:
        return f"{path}: cut off within its header ({size} bytes). {_again(path)}"
    for mark, what in FOREIGN.items():
        if start.startswith(mark):
            return f"{path}: {what}, which linfusion can't read. Take the {ENDING} file of the same model"
    what = "no safetensors file: it begins with no length of a header"
    return f"{path}: {what}. Take the {ENDING} file of the same model"


def refuse_pickle(path: Path) -> None:
    """Raises WeightsError for file types that run code when they are read."""
    if path.suffix.lower() in PICKLES:
        raise WeightsError(
            f"{path}: {path.suffix} files are pickles, which run any code that somebody put in when they are opened. "
            f"Take the {ENDING} file of the same model, or convert it safely: "
            f"linfusion convert {shlex.quote(str(path))}"
        )


def _parsed(path: Path, text: bytes, size: int) -> Header:
    """The header from its JSON. Raises WeightsError if tensors do not fill the `size` bytes of the file exactly."""
    try:
        raw = cast("dict[str, dict[str, object]]", parse_json(text, "it"))
        metadata = {str(key): str(value) for key, value in raw.pop("__metadata__", {}).items()}
        _refuse_formats(path, raw)
        tensors = {name: _info(entry, 8 + len(text)) for name, entry in raw.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{path}: its safetensors header is damaged ({shown(str(error), 150)}). {_elsewhere()}"
        ) from error
    for name, info in tensors.items():
        if info.end - info.begin != math.prod(info.shape) * BITS[info.dtype] // 8:
            raise WeightsError(
                f"{path}: its safetensors header is damaged (tensor {shown(name)} has other bytes than its shape). "
                f"{_elsewhere()}"
            )
    end = 8 + len(text)
    for name, info in sorted(tensors.items(), key=lambda one: (one[1].begin, one[1].end)):
        if info.begin != end:
            what = f"tensor {shown(name)} does not begin where the one before it ends"
            raise WeightsError(f"{path}: its safetensors header is damaged ({what}). {_elsewhere()}")
        end = info.end
    if end != size:
        if size < end:
            raise WeightsError(f"{path}: the file is cut off: {size} of {end} bytes. {_again(path)}")
        what = f"has {size - end} bytes behind its last tensor, which no header tells of"
        raise WeightsError(f"{path}: {what}: it was joined with another file, or written wrongly. {_again(path)}")
    return Header(path, tensors, metadata)


def _info(entry: dict[str, object], base: int) -> TensorInfo:
    dtype, shape = str(entry["dtype"]), tuple(int(side) for side in cast("list[int]", entry["shape"]))
    begin, end = cast("list[int]", entry["data_offsets"])
    if dtype not in BITS or len(shape) > MOST_DIMENSIONS or min(begin, *shape, 0) < 0:
        raise ValueError(f"number format {shown(dtype)}, shape {shown(list(shape))}")
    return TensorInfo(dtype, shape, base + begin, base + end)


def _refuse_formats(path: Path, raw: Mapping[str, Mapping[str, object]]) -> None:
    """Raises WeightsError for numbers in a format that linfusion can't read: nothing is wrong with such a file."""
    for name, entry in raw.items():
        dtype = entry["dtype"]
        if isinstance(dtype, str) and dtype not in BITS and DTYPE.fullmatch(dtype):
            what = f"its tensor {shown(name)} holds numbers as {dtype}, which linfusion can't read"
            raise WeightsError(f"{path}: {what}. Take the file of the same model in F16, BF16 or F32")


def _elsewhere() -> str:
    """The advice for a file that its writer made wrongly: getting it again brings the same."""
    return f"It was written wrongly, or damaged: take another {ENDING} file of the same model, or save it again"


def _again(path: Path) -> str:
    """The advice for a file that was not fetched whole."""
    return f"Remove {path.name} and get it again; what `linfusion fetch` got, it gets again"


def weight_files(folder: Path, variant: str = "") -> tuple[Path, ...]:
    """The safetensors files of one component in diffusers layout; of the variant ("fp16") where there are any.

    Raises WeightsError if there is none, or if an index names a file that is not there.
    """
    for own in (variant, "") if variant else ("",):
        if found := _of_variant(folder, own):
            return found
    others = {match[1] for path in folder.glob(f"*{ENDING}*") if (match := VARIANT.fullmatch(path.name))}
    if len(others) == 1:  # a folder that has one variant alone
        return _of_variant(folder, others.pop())
    pickles = [path for path in sorted(folder.glob("*")) if path.suffix in PICKLES]
    if pickles:
        refuse_pickle(pickles[0])
    if onnx := next(iter(sorted(folder.glob("*.onnx"))), None):
        what = f"an ONNX file, {onnx.name}, which linfusion can't read. Take the {ENDING} files of the same model"
        raise WeightsError(f"{folder}: {what}")
    if other := next(iter(sorted(folder.glob(f"*{ENDING}"))), None):
        if not other.exists():
            what = f"its file {shown(other.name)} is a link to a file that is not there"
            raise WeightsError(f"{folder}: {what}. Take the whole folder of the model")
        known = " or ".join(f"{stem}{ENDING}" for stem in STEMS)
        raise WeightsError(
            f"{folder}: its file {shown(other.name)} has no name that linfusion reads: rename it {known}"
        )
    raise WeightsError(f"{folder}: no {ENDING} file in it")


def _of_variant(folder: Path, variant: str) -> tuple[Path, ...]:
    """The files of a variant ("" is none), in one file or in several with their index; empty if there are none."""
    dot = f".{variant}" if variant else ""
    for stem in STEMS:
        for name in (f"{stem}{ENDING}.index{dot}.json", f"{stem}{dot}{INDEX_ENDING}"):  # diffusers' name, older ones
            if (folder / name).exists():
                return _of_index(folder / name)
        if (folder / f"{stem}{dot}{ENDING}").exists():
            return (folder / f"{stem}{dot}{ENDING}",)
    return ()


def refuse_broken_index(folder: Path) -> None:
    """Raises WeightsError for an index in a folder, of any variant, that names a file which is not there."""
    for index in sorted(folder.glob(f"*{ENDING}.index*.json")):
        _of_index(index)


def _of_index(index: Path) -> tuple[Path, ...]:
    try:
        values = list(read_json(index)["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise WeightsError(f"{index}: damaged ({error})") from error
    for name in values:
        if not isinstance(name, str) or Path(name).name != name:
            raise WeightsError(f"{index}: names {shown(name)}, which is no file beside it")
        if not (index.parent / name).exists():
            raise WeightsError(
                f"{index}: names {shown(name, 120)}, which is not there. Take the whole folder of the model"
            )
    return tuple(index.parent / name for name in sorted(set(values)))
