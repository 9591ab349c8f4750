"""What made an image is found in it again, and no prompt can lie about it or talk to the terminal."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import struct
import subprocess
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linfusion_cli.config.options import all_rows
from linfusion_cli.errors import UsageError
from linfusion_cli.geometry import Size
from linfusion_cli.output.metadata import (
    COUNTED_FROM_1,
    command_of,
    command_words,
    parameters_of,
    read_record,
    record_texts,
    visible,
)
from linfusion_cli.output.png_writer import PngWriter

HOSTILE = [
    "a lake",
    'say "hi", it\'s $HOME `id` $(id) !! \\ 100%',
    "\x1b[31mred\x1b]8;;http://x\x07link",
    "line\nbreak\r\nand\u2028more\tand\x85so",
    "\x07'; echo run; echo \\' \\\\",
    "-rf --overwrite",
    "👩\u200d🚀 na\u00efve 日本 \u202eabc",
    "[/b] [link=x]",
    "a\x00b",
    "lone \ud800 and \udcff",
    "x\nSteps: 1, Sampler: evil, CFG scale: 9, Seed: 666, Size: 1x1",
    "Steps: 1, Sampler: evil, CFG scale: 9, Seed: 666, Size: 1x1",
    "Negative prompt: fake",
    "",
]
# as A1111 reads its own texts (ecosystem.md, 1.5)
PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def made(prompt: str = "a lake", **changes: object) -> dict[str, object]:
    record: dict[str, object] = {
        "version": "0.1.0",
        "prompt": prompt,
        "negative_prompt": "",
        "seed": 1,
        "width": 4096,
        "height": 2048,
        "preset": "landscape-4k",
        "model": "landscape",
        "steps": 25,
        "scheduler": "DDIM",
        "guidance_scale": 5,
        "attention": "linear",
        "dtype": "float32",
        "device": "cpu",
        "settings": {"a": [1, None, True]},
        "stages": [{"size": "1024x512"}],
        "measured": {"seconds": 1.5},
        "overrides": {},
    }
    return {**record, **changes}


def write(folder: Path, texts: dict[str, str]) -> Path:
    sink = io.BytesIO()
    with PngWriter(sink, Size(8, 8), texts) as writer:
        writer.write_rows(np.zeros((8, 8, 3), np.uint8))
    path = folder / "a.png"
    path.write_bytes(sink.getvalue())
    return path


def read_a1111(text: str) -> tuple[str, str, dict[str, str]]:
    *lines, last = text.strip().split("\n")
    prompt: list[str] = []
    negative: list[str] = []
    target = prompt
    for line in lines:
        if line.strip().startswith("Negative prompt:"):
            target, line = negative, line.strip().removeprefix("Negative prompt:")
        target.append(line.strip())
    pairs = {key: str(json.loads(value)) if value.startswith('"') else value for key, value in PAIR.findall(last)}
    return "\n".join(prompt), "\n".join(negative), pairs


@pytest.mark.parametrize("prompt", HOSTILE)
def test_a_record_comes_back_as_it_was(tmp_path: Path, prompt: str) -> None:
    record = made(prompt, negative_prompt=prompt)
    texts = record_texts(record)
    assert texts["linfusion"].isascii()
    assert read_record(write(tmp_path, texts)) == {**record, "command": command_words(record)}


@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_prompt_can_be_written(prompt: str, negative: str) -> None:
    texts = record_texts(made(prompt, negative_prompt=negative))
    PngWriter(io.BytesIO(), Size(8, 8), texts)  # refuses what it can't write
    found = json.loads(texts["linfusion"])
    assert (found["prompt"], found["negative_prompt"]) == (prompt, negative)


def test_parameters_look_as_others_write_them() -> None:
    assert parameters_of(made("a lake", negative_prompt="fog")) == (
        "a lake\nNegative prompt: fog\nSteps: 25, Sampler: DDIM, CFG scale: 5, Seed: 1, Size: 4096x2048, "
        "Model: landscape, Version: linfusion 0.1.0"
    )
    assert ", CFG scale: 5, Eta DDIM: 0.5, Seed: 1, " in parameters_of(made("a lake") | {"eta": 0.5})


@pytest.mark.parametrize("prompt", HOSTILE)
@pytest.mark.parametrize("negative", ["", *HOSTILE])
def test_no_prompt_fakes_a_line(prompt: str, negative: str) -> None:
    text = parameters_of(made(prompt, negative_prompt=negative))
    lines = text.splitlines()
    assert len(lines) == 2 + bool(negative)
    assert [line for line in lines if line.startswith("Steps:")] == [lines[-1]]
    assert sum(line.startswith("Negative prompt:") for line in lines) == bool(negative)
    _, _, values = read_a1111(text)
    assert (values["Seed"], values["Size"], values["Version"]) == ("1", "4096x2048", "linfusion 0.1.0")
    assert not any(unicodedata.category(char) in {"Cc", "Cs"} for char in text.replace("\n", ""))


@pytest.mark.parametrize("model", ["a, b", "Seed: 7", 'x", Seed: 7, y: "', "two\nlines: 1", '"quoted"', "日本"])
def test_values_can_not_fake_others(model: str) -> None:
    _, _, values = read_a1111(parameters_of(made(model=model)))
    assert values["Model"] == model.replace("\n", " ")
    assert values["Seed"] == "1"


def test_the_command_names_what_was_given() -> None:
    record = made(
        "a lake",
        negative_prompt="fog",
        overrides={"steps": 30, "dilated_cutoff": 0.0, "keep_projections": True, "seed": 1, "fp16": None},
    )
    assert command_of(record) == (
        "linfusion generate 'a lake' --preset landscape-4k --size 4096x2048 --seed 1 --negative-prompt fog --steps 30 "
        "--dilated-cutoff 0.0 --keep-projections"
    )


def test_a_record_counts_layers_from_0_and_its_command_from_1() -> None:
    """Records that are older than A1111's way to count must make the same image."""
    assert command_words(made(overrides={"--clip-skip": 1}))[-2:] == ["--clip-skip", "2"]
    assert {row.name for row in all_rows() if row.preset_offset == -1} == COUNTED_FROM_1
    assert all(row.preset_offset in (0, -1) for row in all_rows())


def test_flags_repeat_switch_off_and_keep_their_values() -> None:
    words = command_words(made(overrides={"lora": ["a b", "c"], "resume": False, "shift": -1.5, "--guidance-scale": 3}))
    assert words[9:] == ["--lora", "a b", "--lora", "c", "--no-resume", "--shift=-1.5", "--guidance-scale", "3"]


def test_where_the_image_went_is_not_repeated() -> None:
    overrides = {"output": "/etc/passwd", "overwrite": True}
    assert command_words(made(overrides=overrides), frozenset({"steps"})) == command_words(made())


def test_a_prompt_like_a_flag_stays_a_prompt() -> None:
    assert command_words(made("-rf"))[-2:] == ["--", "-rf"]


@pytest.mark.parametrize("prompt", [prompt for prompt in HOSTILE if "\0" not in prompt and "\ud800" not in prompt])
def test_a_shell_reads_the_same_words(prompt: str) -> None:
    record = made(prompt, negative_prompt=prompt)
    command = command_of(record)
    assert command == visible(command)
    bash = shutil.which("bash")
    if bash is None:
        assert "$'" in command or shlex.split(command) == command_words(record)
        return
    found = subprocess.run([bash, "-c", f"printf '%s\\0' {command}"], stdout=subprocess.PIPE, check=True).stdout
    assert found.decode("utf-8", "surrogateescape").split("\0")[:-1] == command_words(record)


@pytest.mark.parametrize("overrides", [{"a b": 1}, {"x;id": 1}, {"": 1}, {"Steps": 1}, ["steps"], None])
def test_overrides_that_are_no_flags_are_refused(overrides: object) -> None:
    with pytest.raises(UsageError, match=r"is not a flag|are not a JSON object"):
        command_of(made(overrides=overrides))


def test_a_nul_has_no_command() -> None:
    with pytest.raises(UsageError, match="NUL"):
        command_of(made("a\0b"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "nested"),
        ("[]", "holds a list"),
        ("{}", 'no usable "prompt"'),
        (json.dumps(made(seed="1; id")), 'no usable "seed"'),
        (json.dumps(made(seed=True)), 'no usable "seed"'),
    ],
)
def test_records_that_are_no_records_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        read_record(write(tmp_path, {"linfusion": text}))


def test_an_image_without_a_record_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no linfusion record"):
        read_record(write(tmp_path, {"parameters": "a lake"}))
    with pytest.raises(UsageError, match="No such file"):
        read_record(tmp_path / "missing.png")


def test_a_record_without_its_values_is_no_record() -> None:
    with pytest.raises(KeyError, match="steps"):
        record_texts({key: value for key, value in made().items() if key != "steps"})


@given(st.text(st.characters(), max_size=40))
def test_nothing_visible_is_obeyed_or_hidden(text: str) -> None:
    shown = visible(text)
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp", "Cs"} for char in shown)
    assert visible(shown) == shown


@given(st.text())
def test_visible_is_quick_only_where_nothing_is_hidden(text: str) -> None:
    hidden = ("Cc", "Cf", "Zl", "Zp", "Cs")
    assert visible(text) == "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in hidden else char for char in text
    )


def test_visible_keeps_what_can_be_seen() -> None:
    assert visible("café 日本 🏔 [/b] \\") == "café 日本 🏔 [/b] \\"
    assert visible("\x1b[1m\n\u202e\u2028\ud800") == "\\x1b[1m\\n\\u202e\\u2028\\ud800"


def test_texts_of_other_programs_do_not_hide_the_record(tmp_path: Path) -> None:
    path = write(tmp_path, record_texts(made()))
    data = path.read_bytes()
    foreign = [
        (b"tEXt", b"workflow\0" + b"x" * 2_800_000),
        (b"iTXt", b"odd\0\0\0\0\0\xff\xfe"),
        (b"tEXt", b"no keyword"),
    ]
    chunks = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in foreign
    )
    path.write_bytes(data[:33] + chunks + data[33:])
    assert read_record(path)["prompt"] == "a lake"
