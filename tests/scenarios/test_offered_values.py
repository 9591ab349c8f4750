"""What "Nearest:" offers is accepted when it is typed: by every option, and by every command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from linfusion_cli.cli.app import main
from linfusion_cli.config.choices import OTHER_WORDS
from linfusion_cli.config.options import all_rows
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.config.schedulers import SCHEDULERS
from linfusion_cli.errors import Option, UsageError

PACKAGE = Path(__file__).parents[2] / "linfusion_cli"
ROWS = {row.key: row for row in all_rows()}
MOST_ADVICE = 6  # one advice after the other, until none is left

# The modules that offer a value, and what tries it: the tests of this file, or one beside them.
OF_OPTIONS, OF_COMMANDS = "test_what_an_option_is_offered_is_accepted", "test_what_a_command_is_offered_is_accepted"
TRIED = {
    "config/extras.py": OF_OPTIONS,
    "config/filename_template.py": OF_OPTIONS,
    "config/input_images.py": OF_OPTIONS,
    "config/presets.py": OF_OPTIONS,
    "config/request_checks.py": OF_OPTIONS,
    "config/sampling_names.py": OF_OPTIONS,
    "config/schedulers.py": OF_OPTIONS,
    "file_formats.py": OF_OPTIONS,
    "geometry.py": OF_OPTIONS,
    "cli/evaluate.py": "cli/test_evaluate.py",
    "cli/image_series.py": OF_COMMANDS,
    "cli/inspect.py": OF_COMMANDS,
    "cli/sheet.py": OF_COMMANDS,
    "cli/text.py": OF_COMMANDS,
    "cli/upscale.py": OF_COMMANDS,
    "cli/view.py": OF_COMMANDS,
    "convert/convert.py": OF_COMMANDS,
    "planning/rank_forecast.py": OF_COMMANDS,
    "config/prompt_loras.py": "config/test_prompt_loras.py",
    "config/rank_options.py": "config/test_rank_options.py",
    "config/user_defaults.py": "config/test_user_defaults.py",
    "config/weighted_lora.py": "config/test_weighted_lora.py",
    "distill/trainer.py": "distill/test_trainer.py",
    "engine/distributed/ranks.py": "engine/distributed/test_ranks.py",
    "engine/streaming/foreign_unet.py": "engine/streaming/test_foreign_unet.py",
    "evaluate/study.py": "evaluate/test_study.py",
    "images/deep_samples.py": "config/test_input_images.py",
    "planning/input_check.py": "planning/test_input_check.py",
    "planning/kernel_choice.py": "planning/test_kernel_choice.py",
    "planning/memory_advice.py": "planning/test_memory_advice.py",
    "planning/number_format.py": "planning/test_number_format.py",
    "planning/planner.py": "planning/test_planner.py",
    "planning/scheduler_choice.py": "planning/test_scheduler_choice.py",
    "render_ranks.py": "test_render_ranks.py",
    "system/accelerator.py": "system/test_accelerator.py",
    "system_check.py": "test_system_check.py",
    "viewer/server.py": "viewer/test_server.py",
    "weights/model_family.py": "weights/test_model_family.py",
    "weights/unet_file.py": "weights/test_unet_file.py",
}


def test_every_module_that_offers_a_value_is_tried() -> None:
    offering = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r"Nearest: (?!X)", path.read_text())
    }
    assert offering == set(TRIED)
    for name in TRIED.values():
        path = PACKAGE.parent / "tests" / name
        assert name.startswith("test_what") or path.exists(), name


def offered(error: UsageError) -> dict[str, Any]:
    """The values that an error offers, by option; nothing if it offers none."""
    parts = error.message.parts
    after = next((i for i, part in enumerate(parts) if isinstance(part, str) and "Nearest: " in part), None)
    if after is None:
        return {}
    named = error.parameter or next((part.key for part in parts if isinstance(part, Option)), "")
    text = str(parts[after]).rpartition("Nearest: ")[2].strip().strip('"')
    if text.startswith("leave it out"):
        return {named: ROWS[named].default}
    given_options = [part for part in parts[after + 1 :] if isinstance(part, Option)]
    if given_options and given_options[0].value is not None:
        return {given_options[0].key: given_options[0].value}
    return {named: text} if named in ROWS else {}


def typed(values: dict[str, Any]) -> dict[str, Any]:
    """The values as the command line makes them of its words."""
    made = {}
    for key, value in values.items():
        row = ROWS[key]
        single = row.kind(value) if isinstance(value, str) and not row.repeatable else value
        made[key] = (single,) if row.repeatable and not isinstance(single, tuple) else single
    return made


def follow(values: dict[str, Any]) -> str:
    """Follows each advice; returns the first text that is still refused although it was offered."""
    heard: list[str] = []
    for _ in range(MOST_ADVICE):
        try:
            resolve(Request(prompt="a lake", **typed(values)))
        except UsageError as error:
            heard.append(str(error))
            advice = offered(error)
            if not advice:
                return ""
            if all(values.get(key) == value for key, value in advice.items()):
                return heard[-1]
            values = {**values, **advice}
        else:
            return ""
    return " | ".join(heard)


NUMBERS = [row for row in all_rows() if row.kind in (int, float) and not row.repeatable]
WORDS = [row for row in all_rows() if row.kind is str and not row.repeatable and row.key not in ("prompt", "preset")]
FILE_NAMES = st.sampled_from(
    ["a.png", "a.jpg", "a.tif", "a.webp", "a.avif", "a.dzi", "a.bmp", "a", "con.png", "a b.PNG", "x.jxl", "a:b.png"]
)
TEXTS = st.sampled_from(
    [
        *sorted(OTHER_WORDS),
        *SCHEDULERS,
        "Eular a",
        "DPM adaptive",
        "kl_optimal",
        "UniPC",
        "Restart",
        "align your steps",
        "ddim_uniform",
        "1001x33",
        "0x0",
        "8",
        "9999999x8",
        "9GB",
        "5..1",
        "a..b",
        "16",
    ]
)


@st.composite
def asked(draw: Any) -> dict[str, Any]:
    """Some options, with numbers and words that are often wrong."""
    values: dict[str, Any] = {}
    for row in draw(st.lists(st.sampled_from(NUMBERS), max_size=3, unique_by=lambda row: row.key)):
        high = row.range.high if row.range and row.range.high else 100
        numbers = (
            st.floats(-10, 2 * high + 10, allow_nan=False) if row.kind is float else st.integers(-9, 2 * int(high))
        )
        values[row.key] = draw(numbers)
    for row in draw(st.lists(st.sampled_from(WORDS), max_size=2, unique_by=lambda row: row.key)):
        values[row.key] = draw(st.sampled_from([*row.choices]) | TEXTS if row.choices else TEXTS)
    if draw(st.booleans()):
        values["output"] = Path(draw(FILE_NAMES))
    return values


@pytest.mark.slow
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(values=asked())
def test_what_an_option_is_offered_is_accepted(values: dict[str, Any]) -> None:
    assume("model" not in values and "unet" not in values)  # no weights are looked for
    assert follow(values) == ""


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["generate", "x", "--dry-run", "--count", "0"], "0"),
        (["generate", "x", "--dry-run", "--count", "99999999"], "99999999"),
        (["generate", "x", "--dry-run", "--steps", "0"], "0"),
        (["upscale", "a.png", "--dry-run", "--scale", "0.5"], "0.5"),
        (["upscale", "a.png", "--dry-run", "--scale", "900"], "900"),
        (["upscale", "a.png", "--dry-run", "--size", "64x64"], "64x64"),
        (["inspect", "a.png", "--plot", "a.png"], "a.png"),
        (["sheet", "empty", "-o", "a.jpg"], "a.jpg"),
        (["view", "none.png", "--port", "70000"], "70000"),
        (["convert", "a.ckpt", "-o", "a.bin"], "a.bin"),
        (["plan", "--size", "64x64", "--ranks", "900"], "900"),
        (["batch", "list.txt", "--dry-run", "--retry", "900"], "900"),
        (["batch", "list.txt", "--dry-run", "--retry", "-1"], "-1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_command_is_offered_is_accepted(
    words: list[str], wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64)).save("a.png")
    Path("a.ckpt").write_bytes(b"")
    Path("list.txt").write_text("a lake\n")
    Path("empty").mkdir()
    main(words)
    said = capsys.readouterr().err
    assert "Nearest: " in said
    offer = said.partition("Nearest: ")[2].split("\n")[0].strip().strip('"')
    flag, _, value = offer.partition(" ") if offer.startswith("--") else ("", "", offer)
    at = words.index(wrong, 2 if wrong == words[1] else 1)
    main([*words[:at], value.strip('"').rstrip("."), *words[at + 1 :]])
    assert flag in ("", words[at - 1])
    assert "Nearest: " not in capsys.readouterr().err
