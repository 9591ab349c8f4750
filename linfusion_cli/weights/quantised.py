"""Weights in fewer bits, with scales beside them: what the tensors mean without these is another model."""

from __future__ import annotations

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.name_patterns import first_named
from linfusion_cli.weights.safetensors_header import Header

MARKS = {
    r"(.*\.)?scaled_fp8": "float8 weights with scales (scaled fp8)",
    r".*\.(scale_weight|scale_input|weight_scale(_2)?|input_scale)": "float8 weights with scales (scaled fp8)",
    r".*\.comfy_quant": "weights in a quantised format of ComfyUI",
    r".*\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..*|SCB)": "weights of bitsandbytes",
}


INTEGERS = ("I8", "U8", "I16", "U16", "I32", "U32")  # those of 64 bits are positions and counts


def refuse_quantised(header: Header) -> None:
    """Raises WeightsError for a file whose weights are right only together with scales that linfusion does not apply.

    Plain float8 without scales is read.
    """
    if found := first_named(header.tensors, MARKS):
        name, what = found
        advice = "Take the file of the same model in float16, or in plain float8"
        raise WeightsError(f"{header.path}: {what}, which linfusion can't read (tensor {shown(name)}). {advice}")
    for name, info in header.tensors.items():
        if len(info.shape) > 1 and info.dtype in INTEGERS and not name.endswith("position_ids"):
            what = f"its tensor {shown(name)} holds whole numbers ({info.dtype}): quantised, without their scale"
            raise WeightsError(f"{header.path}: {what}. Take the file of the same model in F16, BF16 or F32")
