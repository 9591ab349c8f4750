"""The front door: help, errors and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from linfusion_cli import __version__
from linfusion_cli.cli.app import _built, main, without_debug
from linfusion_cli.errors import BusyError, LinfusionError, OutOfMemoryError, OutputError, UsageError, WeightsError

COMMANDS = [
    [],
    ["generate"],
    ["distill"],
    ["evaluate"],
    ["inspect"],
    ["presets"],
    ["presets", "list"],
    ["presets", "show"],
    ["presets", "check"],
]
HEAVY = {"torch", "diffusers", "transformers", "numpy", "pydantic", "rich"}


@pytest.fixture(autouse=True)
def no_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LINFUSION_DEBUG", raising=False)


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **variables},
        check=False,
    )


def raising(error: BaseException) -> Any:
    def render(*_: object) -> None:
        raise error

    return render


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Examples:" in text
    assert f"linfusion {' '.join(command)}".strip() in text.split("Examples:")[1]


def test_every_option_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    main(["generate", "--help"])
    options = capsys.readouterr().out.split("Options:")[1].split("Examples:")[0].splitlines()
    for i, line in enumerate(options):
        if line.startswith("  -"):
            assert "  " in line.strip() or options[i + 1].startswith(" " * 20), line


@pytest.mark.parametrize(
    ("command", "allowed"), [([], set[str]()), (["generate"], {"pydantic"})], ids=["linfusion", "generate"]
)
def test_help_imports_nothing_heavy(command: list[str], allowed: set[str]) -> None:
    # Typer itself checks the options before a command with pydantic.
    result = python(
        "import sys\nfrom linfusion_cli.cli.app import main\n"
        f"main({[*command, '--help']})\nprint('LOADED', *sys.modules)"
    )
    assert result.returncode == 0, result.stderr
    assert not (HEAVY - allowed) & set(result.stdout.splitlines()[-1].split())


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Usage: linfusion" in capsys.readouterr().out


def test_a_removed_folder_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["generate", "x", "--dry-run"]) == OutputError.exit_code
    assert "the current folder has been removed" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"linfusion {__version__}\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LinfusionError, 1),
        (UsageError, 2),
        (OutOfMemoryError, 4),
        (WeightsError, 66),
        (OutputError, 74),
        (BusyError, 75),
        (KeyboardInterrupt, 130),
    ],
)
def test_every_family_of_errors_has_its_exit_code(
    fakes: SimpleNamespace, capsys: pytest.CaptureFixture[str], error: type[BaseException], code: int
) -> None:
    fakes.render = raising(error("why"))
    assert main(["generate", "x", "--quiet"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    said = "interrupted; the same command continues" if code == 130 else "why"
    assert captured.err == f"error: {said}\n"


class Panic(BaseException):
    """As libraries in Rust raise it."""


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (Panic("a pool"), 1, "Panic: a pool. This is a fault of linfusion"),
        (RuntimeError("can't start new thread"), 1, "no more threads or processes: see ulimit -u"),
        (OSError(12, "Cannot allocate memory", "x.so"), 4, "memory ran out"),
        (MemoryError(), 4, "memory ran out"),
        (OSError(24, "Too many open files", "x.so"), 1, "no more files can be opened"),
    ],
)
def test_what_the_system_refuses_and_panics_are_told_in_one_line(
    fakes: SimpleNamespace, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    fakes.render = raising(error)
    assert main(["generate", "x", "--quiet"]) == code
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert said in shown


def test_sigterm_unwinds_and_ends_with_143(fakes: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    cleaned: list[bool] = []

    def render(*_: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append(True)

    fakes.render = render
    before = signal.getsignal(signal.SIGTERM)
    assert main(["generate", "x", "--quiet"]) == 143
    assert (cleaned, signal.getsignal(signal.SIGTERM)) == ([True], before)
    assert capsys.readouterr().err == "error: stopped by SIGTERM; the same command continues\n"


def test_an_error_is_json_for_programs_and_text_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "", "--json"]) == 2
    captured = capsys.readouterr()
    event = json.loads(captured.out)
    assert (event["type"], event["error"], event["exit_code"]) == ("error", "UsageError", 2)
    assert captured.err == f"error: {event['message']}\n"


@pytest.mark.parametrize(
    "words",
    [["generate", "x", "--stepss", "3"], ["generate", "x", "--steps", "many"], ["generat"], ["presets", "chek"]],
)
def test_a_wrong_word_is_a_usage_error_with_the_way_to_the_help(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    command = "" if words == ["generat"] else f"{words[0]} "
    assert f"See: linfusion {command}--help" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("error", [UsageError("why"), ZeroDivisionError("why")])
def test_a_traceback_is_for_debug_alone(
    fakes: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    fakes.render = raising(error)
    plain = main(["generate", "x", "-q"]), capsys.readouterr().err
    assert "Traceback" not in plain[1]
    for words in (["--debug", "generate", "x", "-q"], ["generate", "x", "-q", "--debug"]):
        assert main(words) == plain[0]
        assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("LINFUSION_DEBUG", "1")
    main(["generate", "x", "-q"])
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--retry -1", '--retry "-1": must be 0 or more. Nearest: 0'),
        ("--retry 200", '--retry "200": must be 100 or less. Nearest: 100'),
        ("--max-minutes -0.5", '--max-minutes "-0.5": must be 0 or more. Nearest: 0'),
        ("--limit x", '--limit "x": write a whole number'),
        ("--max-minutes x", '--max-minutes "x": write a number'),
        ("--dpi 1e9", '--dpi "1e9": write a whole number from 1 to 65535. Nearest: 65535'),
        ("--dpi nan", '--dpi "nan": write a whole number from 1 to 65535'),
        ("--steps 4.5", '--steps "4.5": write a whole number from 1 to 500. Nearest: 4'),
        ("--guidance x", '--guidance "x": write a number from 0 to 100'),
    ],
)
def test_a_wrong_number_is_told_with_what_is_allowed(words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", "list.txt", *words.split()]) == 2
    assert capsys.readouterr().err == f"error: {told}\nSee: linfusion batch --help\n"


def test_debug_after_two_dashes_is_a_prompt() -> None:
    assert without_debug(["generate", "--", "--debug"]) == (["generate", "--", "--debug"], False)


def test_a_message_can_not_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    main(["generate", "x", "--preset", "\x1b]8;;http://x\x07"])
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("linfusion generate x --preset sdxl-1", "sdxl-16k"),
        ("linfusion evaluate --preset sdxl-1", "sdxl-16k"),
        ("linfusion generate x --scheduler eul", "euler_ancestral"),
    ],
)
def test_values_complete(line: str, word: str) -> None:
    code = "import sys\nfrom linfusion_cli.cli.app import main\nsys.exit(main([]))"
    result = python(code, _LINFUSION_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(line.split()) - 1))
    assert word in result.stdout.split()


def test_every_option_of_a_preset_completes_its_names() -> None:
    commands = _built().commands.values()
    flags = [one for command in commands for one in command.params if "--preset" in one.opts]
    assert len(flags) > 5
    assert all("landscape" in [item.value for item in one.shell_complete(None, "land")] for one in flags)


@pytest.mark.slow
def test_the_help_beside_a_completion_is_one_line() -> None:
    code = "import sys\nfrom linfusion_cli.cli.app import main\nsys.exit(main([]))"
    asked = {"_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TYPER_COMPLETE_ARGS": "linfusion generate --s"}
    lines = python(code, _LINFUSION_COMPLETE="complete_fish", COLUMNS="60", **asked).stdout.splitlines()
    assert len(lines) > 5
    assert all(line.startswith("--s") for line in lines)


@pytest.mark.slow
def test_names_of_weights_complete_for_each_option(tmp_path: Path) -> None:
    for name in ("checkpoints/dream", "loras/dragon", "vae/drab"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / f"{name}.safetensors").touch()
    code = "import sys\nfrom linfusion_cli.cli.app import main\nsys.exit(main([]))"
    found = {}
    for flag in ("--model", "--lora", "--vae", "--unet"):
        for given, variable in ((f"--models {tmp_path} ", ""), ("", str(tmp_path))):
            line = f"linfusion generate x {given}{flag} dr"
            words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
            result = python(code, _LINFUSION_COMPLETE="complete_bash", LINFUSION_MODELS=variable, **words)
            found[flag] = [*found.get(flag, []), result.stdout.split()]
    assert found == {
        "--model": [["dream"]] * 2,
        "--lora": [["dragon"]] * 2,
        "--vae": [["drab"]] * 2,
        "--unet": [[]] * 2,
    }


@pytest.mark.slow
def test_the_module_is_the_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "linfusion_cli", "generate", " "],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: the prompt is empty")


def test_an_error_of_many_words_is_one_short_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "a lake", *["x"] * 3000]) == 2
    assert len(capsys.readouterr().err) < 500
