"""`linfusion distill` as a user meets it: quiet when it should be, and clear about folders."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from linfusion_cli.cli.app import main

WORDS = [
    "distill",
    "builtin:landscape",
    "--data",
    "scenes",
    "--steps",
    "1",
    "--batch-size",
    "1",
    "--size",
    "64",
    "--device",
    "cpu",
]


@pytest.mark.slow
def test_quiet_says_nothing_and_neither_do_the_libraries(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_VERBOSITY")}
    words = [sys.executable, "-m", "linfusion_cli", *WORDS, "-q", "-o", str(tmp_path / "student")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "student" / "config.json").exists()


def test_a_folder_that_can_not_be_made_is_an_output_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main([*WORDS, "-o", str(tmp_path / "file")]) == 74
    assert "is not a folder" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["distill", "builtin:landscape", "--data", "missing", "-o", "out"], 2, "there is no such file or folder"),
        (["distill", "builtin:landscape", "--data", "scenes", "-o", "file"], 74, "file"),
        (["evaluate", "-o", "file"], 74, "file"),
        (["evaluate", "-o", "out", "--preset", "landscap"], 2, "landscape"),
        (["evaluate", "-o", "out", "--weights", "missing"], 2, "there is no such folder"),
        (["evaluate", "--images", "missing", "--reference", "."], 2, "there is no such folder"),
    ],
)
def test_wrong_paths_are_refused_before_torch_is_imported(
    words: list[str], code: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    program = (
        "import sys; from linfusion_cli.cli.app import main; code = main(sys.argv[1:]); "
        "print('torch' in sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (code, "False\n"), done.stderr
    assert said in done.stderr
    assert not (tmp_path / "out").exists()
