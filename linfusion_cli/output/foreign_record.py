"""Records that A1111, ComfyUI and InvokeAI leave in their images, and the command that comes nearest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from linfusion_cli.errors import UsageError
from linfusion_cli.files import open_regular
from linfusion_cli.geometry import Size, nearest_size
from linfusion_cli.images.errors import DECODER_ERRORS, ImageError
from linfusion_cli.images.opening import opened
from linfusion_cli.json_files import JsonError, parse_json
from linfusion_cli.output.formats.exif_xmp import record_text
from linfusion_cli.output.metadata import KEYWORD, PARAMETERS, shell_command
from linfusion_cli.output.png_reader import read_text
from linfusion_cli.png_chunks import SIGNATURE

EXIF_IFD, USER_COMMENT = 0x8769, 0x9286
_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')  # as A1111 reads its own last line
_A1111_KEYS = {"Steps": "steps", "Sampler": "sampler", "CFG scale": "cfg", "Seed": "seed", "Model": "model"}
_A1111_KEYS |= {"Schedule type": "schedule"}
_NUMBERS = (("seed", "seed", 0, 2**32 - 1), ("steps", "steps", 1, 500), ("guidance", "cfg", 1, 100))
OTHERS = "others"  # what a record holds beside the fields that commands are made of
_INVOKE_USED = frozenset({"positive_prompt", "negative_prompt", "scheduler", "cfg_scale", "model"})
_COMFY_USED = frozenset({"text", "seed", "steps", "cfg", "sampler_name", "scheduler", "width", "height", "ckpt_name"})
_INVOKE_KEYS = ("seed", "width", "height", "steps")


def read_foreign(path: Path) -> dict[str, object] | None:
    """What another program's image says: "program", "prompt", and what is known of seed, size, steps and model.

    None if the image holds a record of linfusion or none that is known. Raises UsageError for a damaged PNG.
    """
    with suppress(OSError):
        with open_regular(path) as file:
            is_png = file.read(8) == SIGNATURE
        return _of_png(path) if is_png else _of_exif(path)
    return None


def _of_png(path: Path) -> dict[str, object] | None:
    if read_text(path, KEYWORD) is not None:
        return None
    if text := read_text(path, PARAMETERS):
        return parse_a1111(text)
    with suppress(JsonError, UsageError):
        if text := read_text(path, "invokeai_metadata"):
            return _of_invoke(parse_json(text, "its record"))
        if text := read_text(path, "prompt"):
            return _of_comfy(parse_json(text, "its record"))
    return None


def _of_exif(path: Path) -> dict[str, object] | None:
    if record_text(path) is not None:
        return None
    with suppress(ImageError, *DECODER_ERRORS), opened(path) as image:
        data = image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT, b"")
        if isinstance(data, bytes) and data[:8] == b"UNICODE\0":
            text = data[8:].decode("utf-16-le" if data[9:10] == b"\0" else "utf-16-be", "replace")
        else:
            text = data[8:].decode("utf-8", "replace") if isinstance(data, bytes) else str(data)
        return parse_a1111(text) if "Steps: " in text else None
    return None


def parse_a1111(text: str) -> dict[str, object]:
    """The fields of A1111's infotext."""
    body, _, last = text.strip().rpartition("\n") if "\n" in text.strip() else ("", "", text.strip())
    if "Steps: " not in last:
        return {"program": "A1111", "prompt": text.strip()}
    prompt, _, negative = body.partition("Negative prompt:")
    values = infotext_fields(last)
    found: dict[str, object] = {"program": "A1111", "prompt": prompt.strip(), "negative_prompt": negative.strip()}
    found |= {key: _number(values[name]) for name, key in _A1111_KEYS.items() if name in values}
    others = {name: value for name, value in values.items() if name not in (*_A1111_KEYS, "Size")}
    if size := re.fullmatch(r"(\d{1,6})x(\d{1,6})", values.get("Size", "")):
        found |= {"width": int(size[1]), "height": int(size[2])}
    elif "Size" in values:
        others["Size"] = values["Size"]
    return {**found, **({OTHERS: others} if others else {})}


def infotext_fields(line: str) -> dict[str, str]:
    """The settings in the last line of A1111's infotext, by its own names: {"Steps": "20", "CFG scale": "7"}."""
    return {name: value.strip('"') for name, value in _PAIR.findall(line)}


def _number(text: str) -> object:
    if re.fullmatch(r"\d{1,15}", text):
        return int(text)
    return float(text) if re.fullmatch(r"\d{1,9}\.\d{1,9}", text) else text


def _of_invoke(values: Mapping[str, object]) -> dict[str, object]:
    model = values.get("model")
    return {
        "program": "InvokeAI",
        "prompt": str(values.get("positive_prompt", "")),
        "negative_prompt": str(values.get("negative_prompt") or ""),
        **{key: values[key] for key in _INVOKE_KEYS if key in values},
        "sampler": values.get("scheduler", ""),
        "cfg": values.get("cfg_scale", ""),
        "model": model.get("name", "") if isinstance(model, dict) else str(model or ""),
        **_others({key: value for key, value in values.items() if key not in (*_INVOKE_USED, *_INVOKE_KEYS)}),
    }


def _others(values: Mapping[str, object]) -> dict[str, object]:
    """The entry of a record for values of no other field; without those that say nothing."""
    found = {key: value for key, value in values.items() if value not in (None, "", [], {})}
    return {OTHERS: found} if found else {}


def _of_comfy(nodes: Mapping[str, object]) -> dict[str, object] | None:
    """The first sampler of a graph, with the texts, the size and the model that its inputs lead to."""
    inputs = {name: node["inputs"] for name, node in nodes.items() if isinstance(node, dict) and "inputs" in node}
    inputs = {name: given for name, given in inputs.items() if isinstance(given, dict)}
    sampler = next((given for given in inputs.values() if {"seed", "steps", "positive"} <= set(given)), None)
    if sampler is None:
        return None

    def behind(key: str) -> Mapping[str, object]:
        link = sampler.get(key)
        return inputs.get(str(link[0]), {}) if isinstance(link, list) and link else {}

    latent, model = behind("latent_image"), behind("model")
    return {
        "program": "ComfyUI",
        "prompt": str(behind("positive").get("text", "")),
        "negative_prompt": str(behind("negative").get("text", "")),
        "seed": sampler.get("seed"),
        "steps": sampler.get("steps"),
        "sampler": sampler.get("sampler_name"),
        "schedule": sampler.get("scheduler"),
        "cfg": sampler.get("cfg"),
        **{key: latent[key] for key in ("width", "height") if key in latent},
        "model": model.get("ckpt_name", ""),
        **_others(_of_other_nodes(nodes, [sampler, latent, model, behind("positive"), behind("negative")])),
    }


def _of_other_nodes(nodes: Mapping[str, object], used: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """What the nodes of a graph hold beside links and the values that were read, by number and class of the node."""
    found: dict[str, object] = {}
    for number, node in nodes.items():
        if not isinstance(node, dict) or not isinstance(given := node.get("inputs"), dict):
            continue
        read = _COMFY_USED if any(given is one for one in used) else frozenset()
        values = {key: value for key, value in given.items() if not isinstance(value, list) and key not in read}
        if values:
            found[f"{number} {node.get('class_type', '')}".strip()] = values
    return found


def nearest_command(record: Mapping[str, object], sampling: Mapping[str, str]) -> str:
    """The command of linfusion that comes nearest; the model is left to who runs it.

    sampling: the options that the record's "sampler" and "schedule" mean here
    """
    return shell_command(str(record.get("prompt")), _options(record) | dict(sampling))


def _options(record: Mapping[str, object]) -> dict[str, object]:
    options: dict[str, object] = {"negative-prompt": record.get("negative_prompt") or None}
    width, height = record.get("width"), record.get("height")
    if isinstance(width, int) and isinstance(height, int):
        options["size"] = str(nearest_size(Size(width, height)))
    for name, key, low, high in _NUMBERS:
        value = record.get(key)
        if isinstance(value, int | float) and low <= value <= high:
            options[name] = value
    return options


def left_out_of_nearest(record: Mapping[str, object]) -> list[str]:
    """The fields of a record that its nearest_command() does not say, a text for each; its sampler and schedule apart.

    sampling_left_out() tells of these two.
    """
    options, size = _options(record), f"{record.get('width')}x{record.get('height')}"
    found = [f"{key} {record[key]}" for name, key, _, _ in _NUMBERS if name not in options and _says(record, key)]
    if ("width" in record or "height" in record) and options.get("size") != size:
        found.append(f"size {size}" + (f"; {options['size']} is the nearest" if "size" in options else ""))
    found += [f"model {record['model']}"] if _says(record, "model") else []
    others = record.get(OTHERS)
    return found + (list(others) if isinstance(others, dict) else [])


def _says(record: Mapping[str, object], key: str) -> bool:
    return record.get(key) not in (None, "")
