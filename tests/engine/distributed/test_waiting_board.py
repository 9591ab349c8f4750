"""A rank is marked while it waits, for all that have the board, and stays marked where it lost the message."""

from pathlib import Path

import pytest

from linfusion_cli.engine.distributed.waiting_board import WaitingBoard


def test_each_rank_sees_who_waits(tmp_path: Path) -> None:
    first, second, third = (WaitingBoard.of(tmp_path / "board", rank, 3) for rank in (0, 1, 2))
    assert first.all_waiting() == frozenset()
    with third.waiting():
        assert first.all_waiting() == second.all_waiting() == frozenset({2})
        with first.waiting():
            assert second.all_waiting() == frozenset({0, 2})
    assert second.all_waiting() == frozenset()


def test_a_rank_that_lost_a_message_waited_for_it(tmp_path: Path) -> None:
    first, second = (WaitingBoard.of(tmp_path / "board", rank, 2) for rank in (0, 1))
    with pytest.raises(RuntimeError), first.waiting():
        raise RuntimeError("timed out")
    assert second.all_waiting() == frozenset({0})
