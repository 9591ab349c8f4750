"""Dead displays: no broken stream costs an image, an exit code or a word of the log, in every command."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from linfusion_cli.cli.app import main
from linfusion_cli.cli.streams import DisplayStream, ResultStream
from linfusion_cli.errors import StandardOutputError

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "tests" / "stand_in.py"
GENERATE = ["generate", "a lake", "--seed", "5", "--size", "256x128", "--steps", "6", "--overwrite"]
COMMANDS = {
    "generate": GENERATE,
    "batch": ["batch", "list.txt", "--size", "256x128", "-o", "images"],
    "upscale": ["upscale", "missing.png", "a lake"],
    "plan": ["plan", "--size", "512x256"],
    "inspect": ["inspect", "missing.png"],
    "fetch": ["fetch", "sd15-4k", "--offline"],
    "presets": ["presets", "list"],
    "show": ["presets", "show", "landscape"],
    "evaluate": ["evaluate"],
    "distill": ["distill", "no/such", "--data", "no/such", "--output", "out"],
    "landscapes": ["landscapes", "train", "export", "--folder", "out"],
    "doctor": ["doctor"],
    "help": ["--help"],
    "wrong": ["generate", "--no-such-flag"],
}
STREAMS = {
    "stderr closed": "2>&-",
    "stderr full": "2>/dev/full",
    "stderr unread": "2> >(true)",
    "stdout closed": ">&-",
    "stdout full": ">/dev/full",
    "stdout unread": "| true",
    "all closed": "<&- >&- 2>&-",
}


def shell(words: list[str], redirection: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs the program, its engine a stand-in, with a redirection of bash; the exit code is the program's own."""
    (folder / "list.txt").write_text("a lake\n")
    line = f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}'
    return subprocess.run(
        ["bash", "-c", line, "bash", sys.executable, str(STAND_IN), "cli", *words],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=120,
        check=False,
        env={**os.environ, "STAND_IN_FAULTS": str(folder), **variables},
    )


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """The exit codes with sound streams."""
    return {name: shell(words, "", tmp_path_factory.mktemp(name)).returncode for name, words in COMMANDS.items()}


MAIN_COMMANDS = ("generate", "batch", "help", "wrong")
MAIN_STREAMS = ("stdout full", "all closed")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stream"),
    [
        pytest.param(name, stream, marks=() if name in MAIN_COMMANDS or stream in MAIN_STREAMS else (pytest.mark.long,))
        for name in COMMANDS
        for stream in STREAMS
    ],
)
def test_a_broken_stream_changes_no_outcome(name: str, stream: str, tmp_path: Path, sound: dict[str, int]) -> None:
    result = shell(COMMANDS[name], STREAMS[stream], tmp_path)
    allowed = {sound[name]}
    if stream not in ("stderr closed", "stderr full", "stderr unread") and name not in ("generate", "batch"):
        allowed.add(StandardOutputError.exit_code)
    assert result.returncode in allowed, result.stderr
    for word in ("Traceback", "Exception ignored", "fault of linfusion", "Logging error"):
        assert word not in result.stderr + result.stdout
    if name == "generate":
        assert list(tmp_path.glob("*.png"))
    if name == "batch":
        assert list((tmp_path / "images").glob("*.png"))


@pytest.mark.slow
def test_plain_output_that_is_not_read_has_a_code_of_its_own(tmp_path: Path) -> None:
    result = shell(["presets", "list"], "| true", tmp_path)
    assert result.returncode in (0, 141)  # the reader may end before or after the only line is written
    assert not result.stderr
    full = shell(["presets", "list"], ">/dev/full", tmp_path)
    assert full.returncode == 141
    assert full.stderr == "error: standard output can't be written: No space left on device\n"


@pytest.mark.slow
def test_a_path_that_stdout_cannot_take_is_told_on_stderr(tmp_path: Path) -> None:
    result = shell([*GENERATE, "-o", "lake.png", "--quiet"], ">/dev/full", tmp_path)
    assert result.returncode == 0
    loud = shell([*GENERATE, "-o", "lake.png"], ">/dev/full", tmp_path)
    assert loud.returncode == 0
    assert loud.stderr.endswith("note: standard output can't be written: No space left on device\nlake.png\n")


@pytest.mark.slow
def test_a_json_reader_that_goes_ends_the_work_at_a_kept_step(tmp_path: Path) -> None:
    words = [*GENERATE, "--json"]
    result = shell(words, "| head -n 2 >/dev/null", tmp_path, STAND_IN_STEP="0.3")
    assert result.returncode == StandardOutputError.exit_code
    assert not list(tmp_path.rglob("*.png"))
    assert list(tmp_path.rglob("step.safetensors"))
    assert "Traceback" not in result.stderr
    again = shell(words, "", tmp_path)
    assert again.returncode == 0
    assert "going on after step" in again.stdout


@pytest.mark.slow
def test_a_batch_ends_with_the_image_at_which_its_reader_is_missed(tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("a lake\na hill\n")
    words = ["batch", "two.txt", "--size", "256x128", "-o", "images", "--json"]
    result = shell(words, "| head -n 1 >/dev/null", tmp_path, STAND_IN_STEP="0.1")
    assert result.returncode == StandardOutputError.exit_code
    assert len(list(tmp_path.rglob("*.png"))) < 2
    assert shell(words, "", tmp_path).returncode == 0
    assert len(list(tmp_path.rglob("*.png"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--log-file", "--memory-log"])
def test_a_log_on_a_full_disk_is_a_note(flag: str, tmp_path: Path) -> None:
    result = shell([*GENERATE, flag, "/dev/full", "-o", "lake.png"], "", tmp_path)
    assert result.returncode == 0
    assert result.stderr.count("can't be written any more (No space left on device)") == 1
    assert "Traceback" not in result.stderr
    assert (tmp_path / "lake.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--log-file", "--memory-log"])
def test_a_log_that_is_a_pipe_is_refused(flag: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    result = shell([*GENERATE, flag, "pipe"], "", tmp_path)
    assert result.returncode == 74
    assert "it is a pipe" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}])
def test_a_display_without_unicode_shows_escapes(variables: dict[str, str], tmp_path: Path) -> None:
    words = ["generate", "ein Schloß, 湖", "--size", "256x128", "--seed", "1", "-o", "schloß.png"]
    result = shell(words, "", tmp_path, **variables)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "schloß.png").is_file()
    assert r"\u6e56" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["remove", "move"])
def test_after_success_nothing_fails(fault: str, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    words = ["generate", f"a LATE:{fault} lake", "--seed", "5", "--size", "256x128", "-o", str(folder / "lake.png")]
    result = shell(words, "", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "error" not in result.stderr
    assert ((tmp_path / "moved" if fault == "move" else folder) / "lake.png").is_file()


def test_a_display_never_raises() -> None:
    for inner in (None, Failing(), closed()):
        stream = DisplayStream(inner)
        print("a line", file=stream, flush=True)  # type: ignore[arg-type]
        stream.flush()
        assert stream.dead
        assert not stream.isatty()


def test_a_result_raises_at_every_attempt() -> None:
    stream = ResultStream(Failing())
    for _ in range(2):
        with pytest.raises(StandardOutputError, match="No space left on device"):
            print("a line", file=stream)  # type: ignore[arg-type]


def test_main_puts_the_streams_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    assert main(["presets", "list"]) == 0
    assert (sys.stdout, sys.stderr) == before
    assert "landscape" in capsys.readouterr().out


@pytest.mark.slow
def test_json_stays_json_when_it_can_be_written(tmp_path: Path) -> None:
    result = shell([*GENERATE, "--json"], "2>&-", tmp_path)
    assert json.loads(result.stdout.splitlines()[-1])["type"] == "summary"


class Failing(io.StringIO):
    def write(self, text: str, /) -> int:
        raise OSError(28, "No space left on device")


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream
