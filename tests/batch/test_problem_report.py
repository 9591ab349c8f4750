"""What a user reads of lists that can't be: ordered, each thing once."""

from __future__ import annotations

from linfusion_cli.batch.problem_report import refusal


def test_problems_are_told_in_the_order_of_the_lines_and_the_same_one_once() -> None:
    found = ["a.txt:3: late", "a.txt:1: early", "a.txt:4: late", "a.txt:4: late", "b.txt:2: late", "a flag is wrong"]
    assert refusal(found).splitlines() == [
        "4 problems, nothing was started",
        "a.txt:1: early",
        "a.txt:3: late (and in 1 other line)",
        "b.txt:2: late",
        "a flag is wrong",
    ]


def test_of_many_problems_the_first_are_shown() -> None:
    lines = refusal([f"a.txt:{i}: problem {i}" for i in range(1, 101)]).splitlines()
    assert lines[0] == "100 problems, nothing was started"
    assert lines[-1] == "and 80 other problems"
    assert len(lines) == 22
