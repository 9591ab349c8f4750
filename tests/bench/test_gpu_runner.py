"""The command for GPUs: a process for each step, results that survive, time limits, exit codes and the table."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench.gpu import __main__ as command
from bench.gpu.case import STAND_IN, Case, Setting, attempt
from bench.gpu.report import FILE, Report, StepResult
from bench.gpu.runner import run_step, run_steps
from bench.gpu.steps import NAMES, STEPS, Row
from bench.gpu.table import table

pytestmark = pytest.mark.slow  # all of them together

QUIET = lambda text: None  # noqa: E731
GOOD = Case("a number", True, {"error": 1e-7})
WRONG = Case("another", False, {"error": 0.5})


def row(name: str = "parity", seconds: float = 0.0, limit: float = 30.0) -> Row:
    return Row(name, name, "does a thing", seconds, limit)


def child(*lines: str, then: str = "") -> list[str]:
    """A process that prints these lines at once, and then does something."""
    text = "".join(f"print({line!r}, flush=True); " for line in lines)
    return [sys.executable, "-c", f"import os, sys, time; {text}{then or 'pass'}"]


def setting(tmp_path: Path) -> Setting:
    return Setting(device="cpu", quick=True, scratch=tmp_path)


def run(tmp_path: Path, rows: list[Row], commands: dict[str, list[str]], seconds: float = 60.0) -> Report:
    report = Report(tmp_path / "out", STAND_IN, "cpu")
    run_steps(rows, setting(tmp_path), report, seconds, QUIET, command=lambda one, _: commands[one.name])
    return report


def test_a_case_survives_its_line_of_json() -> None:
    case = Case("a", None, {"seconds": 1.5, "words": "two\nlines", "nothing": None})
    assert "\n" not in case.line()
    assert Case.of(case.line()) == case


@pytest.mark.parametrize("line", ["", "{", "[]", '{"name": "a"}', "3", "null"])
def test_a_line_that_is_no_case_is_told_from_one(line: str) -> None:
    with pytest.raises(ValueError, match="no case"):
        Case.of(line)


def test_cases_come_from_the_process_whatever_else_it_prints(tmp_path: Path) -> None:
    result = run_step(row(), child("hello", GOOD.line(), WRONG.line()), 30, QUIET)
    assert (result.state, result.cases, result.wrong) == ("ended", [GOOD, WRONG], [WRONG])


def test_a_process_that_hangs_is_killed_with_its_children_and_keeps_its_cases(tmp_path: Path) -> None:
    mark = tmp_path / "alive"
    late = f"import time; time.sleep(3); open({str(mark)!r}, 'w')"
    hangs = f"import subprocess; subprocess.Popen([sys.executable, '-c', {late!r}]); time.sleep(60)"
    started = time.monotonic()
    result = run_step(row(), child(GOOD.line(), then=hangs), 2, QUIET)
    assert (result.state, result.cases) == ("timed out", [GOOD])
    assert time.monotonic() - started < 30
    time.sleep(3)
    assert not mark.exists()


def test_a_process_that_dies_is_told_by_its_signal_and_its_last_words() -> None:
    died = run_step(row(), child(GOOD.line(), then="os.kill(os.getpid(), 11)"), 30, QUIET)
    assert (died.state, died.cases) == ("failed", [GOOD])
    assert "SIGSEGV" in died.reason
    said = run_step(row(), child(then="sys.exit('CUDA error: unspecified launch failure')"), 30, QUIET)
    assert said.state == "failed"
    assert "unspecified launch failure" in said.reason


def test_results_are_on_the_disk_after_each_step(tmp_path: Path) -> None:
    out = tmp_path / "out" / FILE
    look = f"import json; print(open({str(out)!r}).read().count('a number'), file=sys.stderr); sys.exit(1)"
    commands = {"parity": child(GOOD.line()), "large": child(then=look)}
    report = run(tmp_path, [row(), row("large")], commands)
    assert report.steps["large"].reason.endswith(": 1")
    stored = json.loads(out.read_text())
    assert [step["name"] for step in stored["steps"]] == ["parity", "large"]
    assert stored["marked"] == STAND_IN
    assert stored["steps"][0]["cases"] == [{"name": "a number", "ok": True, "found": {"error": 1e-7}}]
    assert not list(out.parent.glob("*.part"))


def test_a_step_that_does_not_fit_is_skipped_by_name_and_the_next_that_fits_runs(tmp_path: Path) -> None:
    rows = [row("sdxl", seconds=500), row("parity")]
    report = run(tmp_path, rows, {"parity": child(GOOD.line())}, seconds=60)
    assert report.steps["sdxl"].state == "skipped"
    assert "it takes about 500 s" in report.steps["sdxl"].reason
    assert report.steps["parity"].state == "ended"


def test_without_a_card_nothing_is_started(tmp_path: Path) -> None:
    unfit = Case("card", False, {"error": "the driver 470.1 is too old"})
    report = run(tmp_path, [row("environment"), row("parity")], {"environment": child(unfit.line())})
    assert report.steps["parity"].state == "skipped"
    assert "the driver 470.1 is too old" in report.steps["parity"].reason
    assert report.exit_code(["environment", "parity"]) == 1


def test_the_official_code_is_asked_for_where_it_is_needed(tmp_path: Path) -> None:
    report = run(tmp_path, [next(one for one in STEPS if one.name == "official")], {})
    assert "--official PATH" in report.steps["official"].reason
    assert report.exit_code(["official"]) == 0


@pytest.mark.parametrize(
    ("results", "asked", "code"),
    [
        ([StepResult("parity", "ended", cases=[GOOD])], ["parity"], 0),
        ([StepResult("parity", "ended", cases=[GOOD, WRONG])], ["parity"], 1),
        ([StepResult("parity", "skipped")], ["parity"], 1),
        ([StepResult("parity", "timed out", cases=[GOOD])], ["parity"], 1),
        ([], ["parity"], 1),
        ([StepResult("sdxl", "skipped")], ["sdxl"], 0),
        ([StepResult("sdxl", "failed")], ["sdxl"], 1),
        ([StepResult("sdxl", "ended", cases=[Case("a time", None, {"seconds": 2.0})])], ["sdxl"], 0),
    ],
)
def test_the_exit_code(tmp_path: Path, results: list[StepResult], asked: list[str], code: int) -> None:
    report = Report(tmp_path, "", "cuda:0", {result.name: result for result in results})
    assert report.exit_code(asked) == code


def test_the_table_marks_a_stand_in_and_shows_every_case(tmp_path: Path) -> None:
    phase = Case("sdxl: decode", None, {"seconds": 2.5, "planned_seconds": 2.0, "device_peak_gb": 12.25})
    steps = {
        "environment": StepResult("environment", "ended", cases=[Case("card", True, {"name": "a card"})]),
        "parity": StepResult("parity", "ended", cases=[GOOD, WRONG], seconds=3.2),
        "sdxl": StepResult("sdxl", "timed out", "not ended after 240 s", cases=[phase]),
    }
    text = table(Report(tmp_path, STAND_IN, "cpu", steps))
    assert text.startswith(f"**{STAND_IN}**")
    assert "| parity | ended | 1 of 2 right | 3 s |" in text
    assert "| sdxl | timed out: not ended after 240 s |" in text
    assert "| another | **wrong** | error 0.5 |" in text
    assert "| sdxl: decode | 2.5 | 2 |" in text
    assert "card: name a card" in text
    assert STAND_IN not in table(Report(tmp_path, "", "cuda:0", steps))


def test_an_error_is_a_wrong_case_unless_it_leaves_the_card_useless() -> None:
    def fails(text: str) -> Any:
        raise RuntimeError(text)

    case = attempt("a thing", lambda: fails("sizes differ\nand more"))
    assert (case.ok, case.found) == (False, {"error": "RuntimeError: sizes differ"})
    with pytest.raises(RuntimeError, match="illegal memory access"):
        attempt("a thing", lambda: fails("CUDA error: an illegal memory access was encountered"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "paritty"], "no such step"),
        (["--device", "mps"], "--device mps"),
        (["--device", "cpu"], "--quick"),
        (["--official", "/"], "no src/linfusion"),
    ],
)
def test_bad_options_say_what_is_allowed(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(words)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_every_step_has_a_function() -> None:
    from bench.gpu.steps import step_of

    assert len(set(NAMES)) == len(NAMES)
    for name in NAMES:
        found, function = step_of(name)
        assert found.seconds < found.limit
        assert callable(function)


def test_the_whole_command_as_a_stand_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two steps in processes of their own; the others run in test_gpu_steps.py."""
    code = command.main(
        ["--device", "cpu", "--quick", "--only", "environment,large", "--output", str(tmp_path), "--minutes", "20"]
    )
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert shown.out.startswith(f"**{STAND_IN}**")
    assert (tmp_path / "gpu.md").read_text() in shown.out
    stored = json.loads((tmp_path / FILE).read_text())
    assert [step["state"] for step in stored["steps"]] == ["ended", "ended"]
    assert stored["marked"] == STAND_IN


def test_the_wheels_are_all_but_torch() -> None:
    from bench.gpu.wheels import needed

    found = needed()
    assert {"diffusers", "accelerate", "psutil", "transformers", "numpy"} <= set(found)
    assert not [name for name in found if name.startswith(("torch", "nvidia", "triton", "pytest"))]
