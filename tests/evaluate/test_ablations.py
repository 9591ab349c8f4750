"""Every claim is a row."""

from pathlib import Path

import pytest

from linfusion_cli.cli.app import main
from linfusion_cli.evaluate import ablations as claims_module
from linfusion_cli.system.device import find_machine

pytestmark = pytest.mark.slow

CPU = find_machine("cpu")


def test_every_claim_is_a_row(
    quick: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(claims_module, "LARGE", 2)
    monkeypatch.setattr(claims_module, "UPSCALES", {"progressive": {}})
    monkeypatch.setattr(claims_module, "TIMES", (1,))
    words = ["evaluate", "--claims", "-o", str(tmp_path), "--prompts", "2", "--preset", quick, "--device", "cpu"]
    assert main(words) == 0
    first = capsys.readouterr()
    rows = [line.split("|")[1].strip() for line in first.out.splitlines() if "×" in line]
    assert rows == [
        "softmax, direct",
        "linear, direct",
        "progressive",
        "progressive, softmax",
        "linear, direct",
        "Lanczos enlargement",
    ]
    assert "no distilled causal attention" in first.err
    assert main(words) == 0
    assert capsys.readouterr().out == first.out
    for report in tmp_path.glob("*/report.json"):  # of 0.1.0
        report.write_text(report.read_text().replace('"images": {', '"pictures": {'))
    assert main(words) == 0
    assert capsys.readouterr().out == first.out
