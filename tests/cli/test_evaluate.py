"""`linfusion evaluate`: flags that belong together, prompts from a file, the table on stdout and the rest on stderr."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from linfusion_cli.cli.app import main
from linfusion_cli.evaluate import study


@pytest.fixture
def studies(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The studies that were asked for; none is made."""
    asked: list[Any] = []

    class Table:
        def lines(self) -> Iterator[str]:
            yield "| table |"

    def run(given: Any, *rest: object) -> Iterator[object]:
        asked.append(given)
        yield "making images\x1b[31m"
        yield Table()

    monkeypatch.setattr(study, "run_study", run)
    return asked


@pytest.mark.parametrize(
    ("flag", "value", "companion"),
    [("--minutes", "3", "--train-classifier"), ("--variants", "x", "--claims"), ("--inception", "x", "--images")],
)
def test_flags_that_would_do_nothing_are_refused(
    flag: str, value: str, companion: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "-o", str(tmp_path / "study"), flag, value]) == 2
    assert f"{flag} belongs to {companion}" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--claims", "--clip", "."],
        ["--claims", "--size", "256x256"],
        ["--images", ".", "--reference", ".", "--clip", "."],
        ["--images", ".", "--reference", ".", "--seed", "3"],
        ["--train-classifier", "--preset", "landscape"],
    ],
)
def test_a_flag_that_does_nothing_beside_another_is_refused(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [] if "--images" in words else ["-o", str(tmp_path / "study")]
    assert main(["evaluate", *words, *out]) == 2
    assert f"{words[-2]} does nothing beside {words[0]}: leave one of them out" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "-o FOLDER"),
        (["--images", "a"], "--images and --reference belong together"),
        (["--reference", ".", "-o", "x"], "--reference belongs to --images"),
        (["--clip", ".", "-o", "x"], "--clip belongs to --images, or to a preset of another model"),
        (["-o", "x", "--size", "big"], "size"),
        (["-o", "x", "--prompt-file", "missing.txt"], '--prompt-file "missing.txt": it can\'t be read'),
    ],
)
def test_what_can_not_be_measured_is_refused_by_its_flag(
    words: list[str],
    said: str,
    studies: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *words]) == 2
    assert said in capsys.readouterr().err
    assert studies == []


@pytest.mark.parametrize("quiet", [False, True])
def test_the_table_alone_is_on_stdout(
    quiet: bool, studies: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "-o", str(tmp_path), "--prompts", "3", "--size", "64x96", "--attention", "softmax"]
    assert main([*words, *(["--quiet"] if quiet else [])]) == 0
    out, err = capsys.readouterr()
    assert out == "| table |\n"
    assert ("making images" in err) != quiet
    (asked,) = studies
    assert (asked.count, str(asked.size), asked.way.attention) == (3, "64x96", "softmax")


def test_prompts_are_the_lines_of_the_file_that_are_no_comments(studies: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeff# two\r\nred hills at dawn\r\n\r\na lake at night\r\n".encode())
    assert main(["evaluate", "-o", str(tmp_path / "study"), "--prompt-file", str(path)]) == 0
    assert [one.prompt for one in studies[0].prompts] == ["red hills at dawn", "a lake at night"]
