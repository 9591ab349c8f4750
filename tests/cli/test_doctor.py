"""`linfusion doctor`: a line for each finding, what to type under it, and what must be fixed at the end."""

import json

import pytest

from linfusion_cli import system_check
from linfusion_cli.cli.app import main
from linfusion_cli.errors import Message, option
from linfusion_cli.system_check import Finding, State


def finding(about: str, state: State, found: str, fix: str = "") -> Finding:
    return Finding(about=about, state=state, found=found, fix=fix)


FINDINGS = [
    finding("torch", "ok", "2.13"),
    finding("peft", "missing", "not installed\x1b[31m", 'pip install "linfusion-cli[lora]"'),
    finding("GPU", "bad", "not usable", "pip install torch"),
    finding("preset landscape", "ok", "runs"),
    finding("preset sd15-4k", "missing", "not here", "linfusion fetch sd15-4k"),
]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What the machine is said to be; a test may change it."""
    findings = list(FINDINGS)
    monkeypatch.setattr(system_check, "examine", lambda: iter(findings))
    return findings


def test_each_finding_has_its_mark_and_its_fix(found: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "ok torch 2.13"
    assert lines[1].startswith("-- peft not installed")
    assert lines[2] == 'fix: pip install "linfusion-cli[lora]"'
    assert lines[3:5] == ["!! GPU not usable", "fix: pip install torch"]
    assert "Ready to use: landscape" in lines
    assert lines[-1] == "To fix: GPU: pip install torch"


def test_a_strangers_text_moves_no_terminal(found: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    assert "\x1b" not in capsys.readouterr().out


def test_without_a_preset_that_runs_nothing_is_ready(found: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    found[:] = [finding("preset mine", "bad", "broken")]
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["Ready to use: nothing", "To fix: preset mine: broken"]


def test_programs_read_one_line_for_each(found: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    found[:] = [finding("disk", "bad", Message("use ", option("scratch", "/x")), "")]
    assert main(["doctor", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line).items() >= {
        "type": "finding", "about": "disk", "state": "bad", "found": "use --scratch /x", "fix": ""
    }.items()  # fmt: skip
