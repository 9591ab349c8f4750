"""Strangers' texts, files and weights: nothing runs, nothing is obeyed by a terminal, nothing secret is kept."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from linfusion_cli.cli.json_output import json_text
from linfusion_cli.cli.text import safe
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.components.text_encoders import load_text_encoders
from linfusion_cli.engine.components.unet_and_vae import load
from linfusion_cli.errors import WeightsError
from linfusion_cli.output.png_reader import read_text_chunks
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.system.device import find_machine

ROOT = Path(__file__).parents[2]
CANARY = "hf_canaryCANARYcanaryCANARYcanary123"
HOSTILE = [
    "lake \x1b[31m red",
    "lake \x1b]8;;http://evil\x07link\x1b]8;;\x07",
    "lake [/b] [link=http://evil]x[/link]",
    "lake \u202eevil\u2066",
    "lake 100 % and $(touch planted) `touch planted`",
    "-rf ../../etc/passwd ~",
    "🏔" * 63,
    "x" * 10_000,
    f"lake {CANARY}",
]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "HF_TOKEN": CANARY, "PYTHONPATH": str(ROOT), "STAND_IN_FAULTS": str(folder)}
    command = [sys.executable, str(ROOT / "tests" / "stand_in.py"), "cli", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=120, check=False)


def test_hostile_prompts_reach_no_terminal_no_path_and_no_shell(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n".join(HOSTILE) + "\nlake FAULT:cuda " + CANARY + "\n", encoding="utf-8")
    done = run(
        tmp_path, "batch", "list.txt", "-o", "out", "--size", "64x64", "--log-file", "log.txt", "--json", "--keep-going"
    )
    assert done.returncode == 0, done.stderr.decode()
    shown = (
        done.stdout
        + done.stderr
        + (tmp_path / "log.txt").read_bytes()
        + (tmp_path / "out" / ".linfusion" / "journal.jsonl").read_bytes()
    )
    for byte in (b"\x1b", b"\x07", "\u202e".encode(), "\u2066".encode()):
        assert byte not in shown
    images = list((tmp_path / "out").glob("*.png"))
    assert len(images) == len(HOSTILE) + 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != "" and path.name != "list.txt") == [
        "log.txt"
    ]
    assert all(len(path.name.encode()) <= 240 and path.name[0] not in "-." for path in images)


def test_a_token_of_the_environment_is_kept_nowhere(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a lake\na FAULT:cuda lake\n")
    done = run(tmp_path, "batch", "list.txt", "-o", "out", "--size", "64x64", "--log-file", "log.txt", "--debug")
    words = [sys.executable, "-m", "linfusion_cli", "generate", "a hill", "--preset", "sd15-4k", "--debug"]
    environment = {**os.environ, "HF_TOKEN": CANARY, "PYTHONPATH": str(ROOT)}
    again = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, timeout=120, check=False)
    assert (done.returncode, again.returncode) == (0, 66)
    for text in (
        done.stdout,
        done.stderr,
        again.stdout,
        again.stderr,
        *(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()),
    ):
        assert CANARY.encode() not in text
    for path in (tmp_path / "out").glob("*.png"):
        assert CANARY not in str(read_text_chunks(path))


def test_tokens_are_left_out_of_what_is_shown() -> None:
    said, left_out = f"401 with {CANARY} at https://user:word@host/x", "401 with [secret] at https://[secret]host/x"
    assert safe(said) == left_out
    assert json.loads(json_text({"message": said, "list": [{said: said}]})) == {
        "message": left_out,
        "list": [{left_out: left_out}],
    }


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors"])
def test_a_pickle_in_place_of_weights_is_refused_and_does_not_run(tmp_path: Path, name: str) -> None:
    import shutil

    model = tmp_path / "model"
    shutil.copytree(ROOT / "linfusion_cli" / "models" / "landscape", model)
    for path in (model / "unet").glob("*.safetensors"):
        path.unlink()
    (model / "unet" / name).write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    preset = tmp_path / "mine.toml"
    preset.write_text(f'extends = "landscape"\n[model]\nrepositories = ["{model}"]\n')
    job = resolve(Request(prompt="a lake", preset=str(preset), size="64x64", seed=1))
    with pytest.raises(WeightsError):  # noqa: PT012  the plan finds it, or the loading
        plan = make_plan(job, find_machine("cpu"))
        load(plan, load_text_encoders(plan), lambda event: None)
    assert not (tmp_path / "ran").exists()


def test_code_from_elsewhere_is_switched_off_before_diffusers_is_imported() -> None:
    code = (
        "import os; os.environ.pop('DIFFUSERS_DISABLE_REMOTE_CODE', None)\n"
        "from linfusion_cli.system.process_setup import own_process, quiet_libraries\n"
        "own_process(); quiet_libraries()\n"
        "from diffusers.utils import constants; print(constants.DIFFUSERS_DISABLE_REMOTE_CODE)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "True", done.stderr
