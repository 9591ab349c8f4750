from __future__ import annotations

import sys

import pytest
import typer

from linfusion_cli.cli.long_work import LONG_SECONDS, ask_before_long_work


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions, on a terminal where each is answered with no."""
    questions: list[str] = []

    def answer(question: str, **_: object) -> bool:
        questions.append(question)
        return False

    monkeypatch.setattr(typer, "confirm", answer)
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    return questions


def test_people_are_asked_before_hours_of_work(asked: list[str]) -> None:
    with pytest.raises(typer.Exit):
        ask_before_long_work(LONG_SECONDS + 1, yes=False)
    assert "2 h 00 min" in asked[0]


def test_nobody_is_asked_for_less_or_with_yes(asked: list[str]) -> None:
    ask_before_long_work(LONG_SECONDS, yes=False)
    ask_before_long_work(10 * LONG_SECONDS, yes=True)
    assert asked == []


def test_scripts_are_not_asked(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    ask_before_long_work(10 * LONG_SECONDS, yes=False)
    assert asked == []
