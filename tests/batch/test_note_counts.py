"""Each note of a batch is told once, with how many images it concerns."""

from __future__ import annotations

from linfusion_cli.batch.note_counts import MOST_SHOWN, NoteCounts


def test_a_note_is_new_once_and_counts_each_image_once() -> None:
    counts = NoteCounts()
    assert counts.add("blue", ["a"])
    assert not counts.add("blue", ["a", "b"])
    assert counts.add("red", ["a"])
    assert counts.counts() == [("blue", 2), ("red", 1)]
    assert counts.shown() == [("blue", "2 images"), ("red", "1 image")]


def test_beyond_the_most_that_are_shown_notes_are_counted() -> None:
    counts = NoteCounts()
    new = [counts.add(f"note {number}", [str(number % 7)]) for number in range(MOST_SHOWN + 3)]
    assert new == [True] * MOST_SHOWN + [False] * 3
    assert counts.shown()[MOST_SHOWN - 1 :] == [("note 19", "1 image"), ("3 other notes", "3 images")]
    assert len(counts.counts()) == MOST_SHOWN + 3
