"""One look at each file for a whole list, and a new look outside of it."""

from __future__ import annotations

import pytest

from linfusion_cli.config.one_look import looks_once, one_look


def test_inside_one_look_is_kept_and_outside_none() -> None:
    calls: list[str] = []

    @looks_once
    def read(name: str, *, short: bool = False) -> int:
        calls.append(name)
        if name == "gone":
            raise FileNotFoundError(name)
        return len(calls)

    assert (read("a"), read("a")) == (1, 2)
    with one_look():
        assert (read("a"), read("a"), read("b"), read("a", short=True), read("a")) == (3, 3, 4, 5, 3)
        with one_look():
            assert read("a") == 6
        assert read("a") == 3
        for _ in range(2):
            with pytest.raises(FileNotFoundError):
                read("gone")
        assert calls[-2:] == ["gone", "gone"]
    assert read("a") == len(calls)
