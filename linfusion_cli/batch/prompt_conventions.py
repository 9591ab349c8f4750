"""Reads prompts in the notation of other tools: quotes, "### negative", and the infotext of AUTOMATIC1111."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from linfusion_cli.output.foreign_record import infotext_fields

SETTINGS = re.compile(r"(?:^|\s)(?=Steps: ?\d{1,6}(?:,|$))")
NEGATIVE = re.compile(r"(?:^|\s)Negative prompt:")
HASHES = re.compile(r"(?:^|\s)###(?:\s|$)")
_QUOTES = {'"': '"', "'": "'", "\N{LEFT DOUBLE QUOTATION MARK}": "\N{RIGHT DOUBLE QUOTATION MARK}"}
_TEXT_KEYS = frozenset({"prompt", "negative", "negative_prompt", "negative-prompt", "negative prompt"})
# A1111's names and the keys of a row.
_KEYS = {
    "Steps": "steps",
    "Sampler": "scheduler",
    "Schedule type": "sigma_schedule",
    "CFG scale": "guidance",
    "Eta": "eta",
    "Eta DDIM": "eta",
    "Seed": "seed",
    "Size": "size",
    "Clip skip": "clip_skip",
}


PROMPT_NAMES = (
    "prompt",
    "positive",
    "positive_prompt",
    "text",
)  # the first that is there
_SAMPLER_NAMES = frozenset({"sampler", "sampler_name"})
# Flags of A1111 that decide nothing here, and the values with which the others do so; (): any.
_NO_EFFECT: Mapping[str, tuple[str, ...]] = {
    "outpath_samples": (),
    "outpath_grids": (),
    "prompt_for_display": (),
    "do_not_save_samples": (),
    "do_not_save_grid": (),
    "denoise": ("1", "1.0"),  # without an image to start from
    "restore_faces": ("false",),
    "tiling": ("false",),
    "subseed": ("-1",),
    "subseed_strength": ("0", "0.0"),
    "seed_resize_from_h": ("0", "-1"),
    "seed_resize_from_w": ("0", "-1"),
}


def own_names(values: Mapping[str, object]) -> tuple[Mapping[str, object], list[str]]:
    """The values of a row with what other tools name otherwise under the names of here; and the keys without effect.

    A prompt may be "positive" or "text". Beside a sampler "scheduler" is ComfyUI's word for the sigma schedule.
    """
    names = {_normal(key): key for key in values}
    unused = [key for name, key in names.items() if name in _NO_EFFECT and _has_no_effect(name, values[key])]
    unused = [key for key in unused if _normal(key) != "denoise" or "init_image" not in names]
    renamed: dict[str, str] = {}
    if "prompt" not in names:
        renamed |= {names[name]: "prompt" for name in [name for name in PROMPT_NAMES if name in names][:1]}
    if "scheduler" in names and not _SAMPLER_NAMES.isdisjoint(names):
        renamed[names["scheduler"]] = "sigma_schedule"
    if not unused and not renamed:
        return values, []
    return {renamed.get(key, key): value for key, value in values.items() if key not in unused}, unused


@lru_cache(256)
def _normal(key: str) -> str:
    return re.sub(r"[\s-]+", "_", key.strip().lower())


def _has_no_effect(name: str, value: object) -> bool:
    neutral = _NO_EFFECT[name]
    return not neutral or str(value).strip().lower() in neutral


def plain_values(values: Mapping[str, object]) -> tuple[Mapping[str, object], list[str]]:
    """The values after quotes, "### negative" and infotext in the prompt are resolved, and the unused infotext keys.

    A value in the row takes precedence over one in the infotext. Lists of prompts stay as they are written.
    """
    key = next((key for key in values if key.strip().lower() == "prompt"), None)
    prompt = values.get(key) if key is not None else None
    if key is None or not isinstance(prompt, str):
        return values, []
    texts = {name: unquoted(text) for name, text in values.items() if _is_text(name) and isinstance(text, str)}
    body, fields, unused = _without_settings(texts[key])
    prompt, negative = _split(body)
    found: dict[str, object] = {**fields, **values, **texts, key: unquoted(prompt)}
    if negative is not None and not any(_is_text(name) and name != key for name in values):
        return {**found, "negative_prompt": unquoted(negative)}, unused
    return found, unused if negative is None else [*unused, f"negative prompt: {negative}"]


def _is_text(key: str) -> bool:
    return key.strip().lower() in _TEXT_KEYS


def unquoted(text: str) -> str:
    """The text without the quotes around the whole of it; quotes around a part of it stay."""
    bare = text.strip()
    end = _QUOTES.get(bare[:1])
    if end is None or len(bare) < 2 or not bare.endswith(end) or end in bare[1:-1]:
        return text
    return bare[1:-1].strip()


def has_settings(text: str) -> bool:
    """Whether a text holds the settings of an infotext: "Steps: 20, Sampler: ..."."""
    return SETTINGS.search(text) is not None


def _without_settings(text: str) -> tuple[str, dict[str, object], list[str]]:
    found = SETTINGS.search(text) if "Steps:" in text else None
    if found is None:
        return text, {}, []
    fields: dict[str, object] = {}
    unused: list[str] = []
    for name, value in infotext_fields(text[found.end() :]).items():
        if name == "Clip skip" and value.isascii() and value.isdigit() and len(value) < 4:
            fields["clip_skip"] = max(1, int(value))  # 0 is read as 1 there, too
        elif name in _KEYS:
            fields[_KEYS[name]] = value
        else:
            unused.append(f"{name}: {value}")
    return text[: found.start()], fields, unused


def _split(text: str) -> tuple[str, str | None]:
    """The prompt, and the negative prompt behind "Negative prompt:" or "###"; None if there is neither."""
    for mark in (NEGATIVE, HASHES):
        if found := mark.search(text):
            return text[: found.start()].strip(), text[found.end() :].strip()
    return text, None
