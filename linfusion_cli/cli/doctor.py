"""`linfusion doctor`: checks the machine, the installation and the weights."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from linfusion_cli.cli.json_output import emit
from linfusion_cli.cli.spelling import told

NARROW = 30  # columns beside what was looked at, from which on what was found is wrapped below itself
MARKS = {"ok": "ok", "missing": "--", "bad": "!!"}
EPILOG = """\b
Examples:
  linfusion doctor
  linfusion doctor --json | jq 'select(.state != "ok")'

\b
ok: fine. --: not here, and not needed by everything. !!: must be fixed. Nothing is downloaded or changed.
"""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line for each finding.")] = False,
) -> None:
    """Look at the machine, the installation and the weights, and say what would run."""
    from linfusion_cli.cli.text import GAP, safe, table
    from linfusion_cli.cli.wrapping import columns_of, fitted, say
    from linfusion_cli.system_check import examine

    findings = list(examine())
    if as_json:
        for finding in findings:
            emit(sys.stdout, "finding", {**asdict(finding), "found": told(finding.found), "fix": told(finding.fix)})
        return
    rows = [[MARKS[finding.state], finding.about, safe(finding.found)] for finding in findings]
    columns, start = columns_of(sys.stdout), max(len(about) for _, about, _ in rows) + 2 + 2 * GAP
    for line, finding in zip(table(rows, left=3), findings, strict=True):
        for piece in fitted(line, columns, hanging=start if columns - start > NARROW else 6):
            typer.echo(piece)
        if finding.fix:
            say(f"      fix: {safe(finding.fix)}")
    runs = [
        finding.about.removeprefix("preset ")
        for finding in findings
        if finding.about.startswith("preset ") and finding.state == "ok"
    ]
    say(f"\nReady to use: {', '.join(runs) or 'nothing'}")
    for finding in findings:
        if finding.state == "bad":
            say(f"To fix: {finding.about}: {safe(finding.fix or finding.found)}")
