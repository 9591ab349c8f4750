"""The results as Markdown, for docs/gpu.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bench.gpu.case import Case
from bench.gpu.report import Report, StepResult
from bench.gpu.steps import STEPS

WHAT = {row.name: row.what for row in STEPS}
PHASES = ("seconds", "planned_seconds", "passes", "seconds_per_pass", "device_peak_gb", "planned_peak_gb")


def table(report: Report) -> str:
    """Where it ran, how each step ended, then the cases of each."""
    parts = [f"**{report.marked}**: no number below is one of a card."] if report.marked else []
    parts += [_environment(report), _states(report)]
    for result in report.steps.values():
        if result.name != "environment" and result.cases:
            parts.append(f"### {result.name}: {WHAT[result.name]}\n\n{_cases(result)}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _environment(report: Report) -> str:
    seen = report.steps.get("environment")
    return "\n".join(f"* {case.name}: {_text(case.found)}" for case in seen.cases) if seen else ""


def _states(report: Report) -> str:
    rows = []
    for result in report.steps.values():
        judged = [case for case in result.cases if case.ok is not None]
        right = f"{len(judged) - len(result.wrong)} of {len(judged)} right" if judged else "nothing to judge"
        how = result.state if not result.reason else f"{result.state}: {result.reason}"
        rows.append(f"| {result.name} | {_cell(how)} | {right} | {result.seconds:.0f} s |")
    return "\n".join(["| step | how it ended | cases | time |", "|---|---|---|---|", *rows])


def _cases(result: StepResult) -> str:
    """One table for the cases with the columns of a phase, one line each for the others."""
    phases = [case for case in result.cases if "planned_seconds" in case.found]
    others = [case for case in result.cases if "planned_seconds" not in case.found]
    lines = []
    if phases:
        lines += [f"| | {' | '.join(name.replace('_', ' ') for name in PHASES)} |", "|---|" + "---|" * len(PHASES)]
        lines += [f"| {case.name} | {' | '.join(_number(case.found.get(key)) for key in PHASES)} |" for case in phases]
        lines.append("")
    lines += _judged(others)
    return "\n".join(lines).rstrip()


def _judged(cases: Iterable[Case]) -> list[str]:
    words = {True: "right", False: "**wrong**", None: ""}
    rows = [f"| {_cell(case.name)} | {words[case.ok]} | {_cell(_text(case.found))} |" for case in cases]
    return ["| case | | found |", "|---|---|---|", *rows] if rows else []


def _text(found: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in found.items())


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 100 else f"{value}"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
