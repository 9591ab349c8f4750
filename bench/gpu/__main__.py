"""Proves and measures this program on a GPU within ten minutes, and prints the table of docs/gpu.md.

    python -m bench.gpu [--only parity,sdxl] [--output out/gpu] [--device cuda:0] [--official PATH] [--minutes 10]
    python -m bench.gpu --device cpu --quick

Each step runs in a process of its own, and its results are in gpu.json of the output folder as soon as it has ended.
With --quick, tiny networks and small images run every line of it: a stand-in, not a GPU. Exit code 1: a case is wrong,
a step broke off, or the parity did not end; 2: the command is not what it may be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench.gpu.case import STAND_IN, Setting
from bench.gpu.report import TABLE, Report
from bench.gpu.runner import run_steps
from bench.gpu.steps import NAMES, STEPS, run_here
from bench.gpu.table import table


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="STEPS", help=", ".join(NAMES))
    parser.add_argument("--output", type=Path, default=Path("out/gpu"), metavar="FOLDER")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--quick", action="store_true", help="tiny networks, small images")
    parser.add_argument("--official", type=Path, metavar="PATH", help="a checkout of Huage001/LinFusion")
    parser.add_argument("--minutes", type=float, default=10.0, help="steps that do not fit are skipped by name")
    parser.add_argument("--child", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.steps = tuple(name for name in options.only.split(",") if name) or NAMES
    if unknown := [name for name in options.steps if name not in NAMES]:
        parser.error(f"--only {unknown[0]}: no such step. The steps are {', '.join(NAMES)}")
    if options.device.partition(":")[0] not in ("cuda", "cpu"):
        parser.error(f"--device {options.device}: give cuda, cuda:N, or cpu together with --quick")
    if options.device == "cpu" and not options.quick:
        parser.error("--device cpu: the full sizes take days there. Add --quick, a stand-in that measures no GPU")
    if options.official and not (options.official / "src" / "linfusion").is_dir():
        parser.error(f"--official {options.official}: has no src/linfusion. Give a checkout of Huage001/LinFusion")
    return options


def main(arguments: list[str]) -> int:
    options = parsed(arguments)
    official = options.official.resolve() if options.official else None
    if options.child:
        scratch = options.scratch or Path(tempfile.gettempdir())
        here = Setting(device=options.device, quick=options.quick, scratch=scratch, official=official)
        return run_here(options.child, here)
    marked = STAND_IN if options.quick or options.device == "cpu" else ""
    report = Report(options.output, marked, options.device)
    rows = [row for row in STEPS if row.name in options.steps]
    with tempfile.TemporaryDirectory(prefix="linfusion-gpu-") as folder:
        setting = Setting(device=options.device, quick=options.quick, scratch=Path(folder), official=official)
        run_steps(rows, setting, report, 60 * options.minutes, _tell)
    text = table(report)
    (report.folder / TABLE).write_text(text)
    print(text)
    return report.exit_code(options.steps)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
