"""Files and values of strangers through the real command: a named error soon, never a fault of the program."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest
from mutations import mutated
from PIL import Image

from linfusion_cli.cli.app import main

DRY = ["generate", "x", "--size", "64x64", "--dry-run"]
NINES = "9" * 400
TEXTS = {
    "digits.toml": "[sampling]\nsteps = " + "9" * 5000,
    "nested.toml": "x = " + "[" * 20_000 + "]" * 20_000,
    "parts.toml": ".".join(["a"] * 20_000) + " = 1",
    "nul.toml": '[model]\nrepositories = ["a\\u0000b"]\n\0',
    "tag.yaml": '- prompt: !!int ""\n',
    "float.yaml": '- prompt: !!float ""\n',
    "date.yaml": "- prompt: !!timestamp x\n",
    "bool.yaml": "- prompt: !!bool x\n",
    "key.yaml": "defaults: {5: 1}\njobs: [a]\n",
    "brackets.yaml": "[" * 40_000,
    "steps.yaml": "[a,\n" * 20_000,
    "deep.jsonl": "[" * 100_000 + "\n",
    "cell.csv": 'prompt,seed\n"' + "x" * 3_000_000 + '",1\n',
}


@pytest.mark.parametrize("name", TEXTS)
def test_an_odd_text_is_named_soon(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    path.write_text(TEXTS[name])
    commands = [["batch", str(path), "--dry-run"]]
    if name.endswith(".toml"):
        commands += [[*DRY, "--preset", str(path)], ["presets", "check", str(path)]]
    for command in commands:
        started = time.process_time()
        assert main(command) == 2
        assert time.process_time() - started < 2
        told = capsys.readouterr().err
        assert name in told
        assert "fault of linfusion" not in told


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "PIPE"],
        ["generate", "--prompt-file", "PIPE", "--dry-run"],
        [*DRY, "--init-image", "PIPE"],
        [*DRY, "--preset", "PIPE.toml"],
        ["batch", "PIPE.toml", "--dry-run"],
        ["presets", "check", "PIPE.toml"],
    ],
)
def test_a_pipe_without_a_writer_is_refused(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("PIPE", "PIPE.toml"):
        os.mkfifo(tmp_path / name)
    assert main([str(tmp_path / word) if word.startswith("PIPE") else word for word in words]) == 2
    assert "pipe" in capsys.readouterr().err


LOCATIONS = ("--model", "--vae", "--linfusion", "--lora", "--textual-inversion", "--ip-adapter", "--controlnet")


@pytest.mark.parametrize("flag", LOCATIONS)
@pytest.mark.parametrize("odd", ["pipe", "pipe.safetensors", "/dev/zero"])
def test_a_pipe_or_a_device_in_place_of_weights_is_refused(
    flag: str, odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pipe", "pipe.safetensors"):
        os.mkfifo(tmp_path / name)
    Image.new("RGB", (64, 64)).save("image.png")
    images = {"--ip-adapter": ["--ip-image", "image.png"], "--controlnet": ["--control-image", "image.png"]}
    assert main([*DRY, flag, odd, *images.get(flag, [])]) == 66
    assert f"{odd}: it is a pipe, a device or a socket" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--max-memory", "--size"])
@pytest.mark.parametrize(
    "value", [NINES, f"{NINES}GB", f"{NINES}x64", "9" * 5000 + "x64", "1e999GB", "9" * 5000 + "TB"]
)
def test_a_number_beyond_all_machines_is_refused(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DRY, flag, value]) == 2
    assert "fault of linfusion" not in capsys.readouterr().err


def test_the_nearest_memory_is_accepted() -> None:
    assert main([*DRY, "--max-memory", "1000000TB"]) == 0


def test_a_preset_that_links_to_itself_and_one_with_a_byte_order_mark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    assert main([*DRY, "--preset", str(tmp_path / "loop.toml")]) == 2
    assert "loop.toml" in capsys.readouterr().err
    (tmp_path / "bom.toml").write_text("[sampling]\nsteps = 7\n", encoding="utf-8-sig")
    assert main([*DRY, "--preset", str(tmp_path / "bom.toml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["plan"]["stages"][0]["steps"] == 7


SOUND = {
    "list.toml": b'[defaults]\nsteps = 9\n[[jobs]]\nprompt = "a lake"\nseed = 3\n',
    "list.yaml": b'defaults: {steps: 9}\njobs:\n  - prompt: "a lake"\n    seed: 3\n  - a hill\n',
    "list.jsonl": b'{"prompt": "a lake", "seed": 3}\n"a hill"\n',
    "list.csv": b'prompt,seed\n"a lake",3\n',
    "list.txt": b"a lake --seed 3 --negative 'x'\n# c\n",
    "preset.toml": b'extends = "landscape"\n[sampling]\nsteps = 9\n[output]\nsize = "64x64"\n',
}


@pytest.mark.parametrize("name", SOUND)
def test_mutations_end_in_an_exit_code_of_their_own(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LINFUSION_FUZZ names how many mutations of each file are tried; 35 make 210 in all."""
    monkeypatch.chdir(tmp_path)
    path, chance = tmp_path / name, random.Random(name)
    for _ in range(int(os.environ.get("LINFUSION_FUZZ", "35"))):
        path.write_bytes(mutated(SOUND[name], chance))
        words = [*DRY, "--preset", str(path)] if name.startswith("preset") else ["batch", str(path), "--dry-run"]
        started = time.process_time()
        assert main(words) in (0, 2, 66, 74), path.read_bytes()
        assert time.process_time() - started < 4
        assert "fault of linfusion" not in capsys.readouterr().err, path.read_bytes()
