"""The files of adapters: a LoRA, an IP-Adapter and its image encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from linfusion_cli.errors import WeightsError, option
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.families import FAMILY_ROWS
from linfusion_cli.weights.image_encoder import encoder_config
from linfusion_cli.weights.layer_shapes import Shapes
from linfusion_cli.weights.lora_names import stem_and_kind
from linfusion_cli.weights.model_family import check_kind
from linfusion_cli.weights.pipeline_settings import read_json_object
from linfusion_cli.weights.safetensors_header import CONVOLUTION, ENDING, Header, TensorInfo

ENCODER = "image_encoder"
FACE_ID_MARKS = ("image_proj.perceiver_resampler.", "image_proj.mapping.", "image_proj.id_")
FACE_ID_LAYERS = {"image_proj.proj.0.weight", "image_proj.norm.weight"}  # full-face has proj.3 for the second
MERGED = {"dora_scale", "mid", "bias", "diff_b"}  # beside the factors of a layer: never plain LoRA
# Of h94/IP-Adapter, by family: the plain adapter. Its two image encoders are chosen by the width that an adapter reads.
OFFICIAL = {name: row.ip_adapter for name, row in FAMILY_ROWS.items() if row.ip_adapter}


def lora_file(path: Path) -> Path:
    """The .safetensors file of a LoRA: the path, or the one in it. Raises WeightsError if it holds none or several."""
    if path.is_file():
        return path
    return _only(path, "lora", f"*{ENDING}", ENDING)


def merged_parameters(lora: Header, *, whole: bool = False) -> int:
    """Of the layers that a LoRA is merged into: the weights that were there before wait beside the merged ones.

    Plain LoRA is merged only into convolutions, or into every layer (whole). A full matrix (`diff`) counts for layers
    whose size no factor gives.
    """
    layers: dict[str, Shapes] = {}
    for name, info in lora.tensors.items():
        if (found := stem_and_kind(name)) is not None:
            stem, kind = found
            layers.setdefault(stem, {})[kind] = info.shape
    return sum(_merged_into(layer, whole=whole) for layer in layers.values())


def _merged_into(layer: Shapes, *, whole: bool) -> int:
    """The weights of one layer that an update is merged into; 0 where the update acts beside the layer."""
    down, up = layer.get("down", ()), layer.get("up", ())
    if down and up and (whole or len(down) == CONVOLUTION or MERGED & layer.keys()):
        return up[0] * math.prod(down[1:])
    if "diff" in layer:
        return math.prod(layer["diff"])
    first, second = (
        layer.get("hada_w1_a", ()),
        layer.get("hada_w1_b", ()),
    )  # transposed beside hada_t1
    if len(first) > 1 and len(second) > 1:
        return first[1 if "hada_t1" in layer else 0] * second[1]
    return _elements(layer, "lokr_w1") * _elements(layer, "lokr_w2")


def _elements(layer: Shapes, name: str) -> int:
    """The elements of a matrix of LoKr, which is whole or in two factors; 0 for none."""
    if name in layer:
        return math.prod(layer[name])
    first, second = layer.get(f"{name}_a", ()), layer.get(f"{name}_b", ())
    if not first or not second:
        return 0
    return first[1 if "lokr_t2" in layer and len(first) > 1 else 0] * math.prod(second[1:])


def adapter_file(path: Path, family: str) -> Path:
    """The file of an IP-Adapter: the path itself, the only one in it, or the plain one of the official repository.

    Raises WeightsError, with what is there, if that is not one file.
    """
    if path.is_file():
        return path
    if family in OFFICIAL and (path / OFFICIAL[family]).exists():
        return path / OFFICIAL[family]
    return _only(path, "ip_adapter", f"ip*adapter*{ENDING}", f"ip-adapter*{ENDING}")


def encoder_folders(file: Path, path: Path) -> list[Path]:
    """The folders with an image encoder beside an adapter's file that was found at a path; [] if there is none.

    The official repository has two, in models/ and in sdxl_models/, and adapters of either in both.
    """
    own, root = file.parent, file.parent.parent
    parents = [own, root / "models", root / "sdxl_models", path if path.is_dir() else own]
    return [folder for parent in parents if ((folder := parent / ENCODER) / "config.json").exists()]


def encoder_folder(adapter: Header, path: Path) -> Path:
    """The folder of encoder_folders() with the width that the adapter reads.

    Raises WeightsError if there is none, or none of that width.
    """
    folders = encoder_folders(adapter.path, path)
    if not folders:
        raise no_encoder(adapter.path)
    key, width = _encoder_width(adapter.tensors)
    widths = {folder: read_json_object(folder / "config.json").get(key) for folder in folders}
    for folder in folders:
        if not width or widths[folder] == width:
            return folder
    what = f"it reads an image encoder with {key} {width}, {folders[0]} has {shown(widths[folders[0]])}"
    raise WeightsError(f"{adapter.path}: {what}. Put the encoder of the adapter there", parameter="ip_adapter")


def no_encoder(file: Path) -> WeightsError:
    """What to say of an adapter's own file without an image encoder."""
    expected = f"there is no {file.parent / ENCODER} with config.json and model{ENDING}"
    what = f"{file}: its image encoder is missing: {expected}. Put it there, or name one with "
    return WeightsError(what, option("ip_encoder"), parameter="ip_adapter")


def encoder_inside(path: Path) -> Path:
    """Where the image encoder is in what the user named: the folder or file itself, or the one in it.

    Raises WeightsError for a folder without a config that holds none or several files.
    """
    if path.is_file() or (path / "config.json").exists():
        return path
    if (path / ENCODER / "config.json").exists():
        return path / ENCODER
    return _only(path, "ip_encoder", f"*{ENDING}", ENDING)


def check_encoder(adapter: Header, path: Path, headers: tuple[Header, ...]) -> None:
    """Raises WeightsError if an image encoder, with its headers, has another width than the adapter reads."""
    key, width = _encoder_width(adapter.tensors)
    theirs = encoder_config(path, headers).get(key)
    if width and theirs != width:
        what = f"its {key} is {shown(theirs)}, {adapter.path.name} reads an image encoder with {width}"
        raise WeightsError(f"{path}: {what}", parameter="ip_encoder")


def refuse_face_id(header: Header) -> None:
    """Raises WeightsError for an IP-Adapter that reads no image, but what a face recognition model says of one."""
    layers = header.tensors.keys() & FACE_ID_LAYERS
    for name in header.tensors:
        lora = name.startswith("ip_adapter.") and "_lora." in name
        if name.startswith(FACE_ID_MARKS) or lora or (layers == FACE_ID_LAYERS and name in layers):
            what = "an IP-Adapter FaceID, which needs a face recognition model. Take a plain, plus or full-face adapter"
            raise WeightsError(f"{header.path}: {what} (tensor {shown(name)})", parameter="ip_adapter")


def check_ip_adapter(header: Header, text_dim: int) -> None:
    """Raises WeightsError for what is no IP-Adapter that linfusion runs, or reads text of another width.

    text_dim: of the model's UNet, 0 if that is not known.
    """
    refuse_face_id(header)
    check_kind(header.tensors, "ip-adapter", header.path, "ip_adapter")
    for name, info in header.tensors.items():
        if not name.startswith(("image_proj.", "ip_adapter.")):
            what = f"its tensor {shown(name)} is not a part of an IP-Adapter: images may depend on it"
            raise WeightsError(f"{header.path}: {what}", parameter="ip_adapter")
        if text_dim and name.endswith("to_k_ip.weight") and info.shape[1] != text_dim:
            what = f"reads text of width {info.shape[1]}, the model's is {text_dim}"
            raise WeightsError(f"{header.path}: for another model: it {what}", parameter="ip_adapter")


def _encoder_width(tensors: Mapping[str, TensorInfo]) -> tuple[str, int]:
    """The setting of the image encoder's config that an adapter depends on, and its value; 0 if the adapter has none.

    The plain adapter reads the encoder's embedding, "plus" and "full" its hidden states.
    """
    for name, key in (
        ("image_proj.proj.weight", "projection_dim"),
        ("image_proj.proj_in.weight", "hidden_size"),
        ("image_proj.proj.0.weight", "hidden_size"),
    ):
        if name in tensors and len(tensors[name].shape) > 1:
            return key, tensors[name].shape[1]
    return "projection_dim", 0


def _only(folder: Path, parameter: str, pattern: str, wanted: str) -> Path:
    """The one file that fits the pattern. Raises WeightsError, with what is there, if there is none or several."""
    files = sorted(folder.glob(pattern))
    if len(files) != 1:
        names = ", ".join(path.name for path in files) or "none"
        raise WeightsError(
            f"{folder}: one {wanted} file is required, found: {names}. Name the file: {folder}/FILE{ENDING}",
            parameter=parameter,
        )
    return files[0]
