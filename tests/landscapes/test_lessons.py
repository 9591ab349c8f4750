"""A run is told from others by all that it was taught with."""

from dataclasses import fields
from pathlib import Path

from linfusion_cli.landscapes.lessons import Lessons


def test_every_lesson_is_a_part_of_a_runs_identity() -> None:
    other = Lessons(0.5, 0.5, Path("models/landscape"), keep_composition=True).identity()
    assert set(other) == {field.name for field in fields(Lessons)}
    assert other["start"] == "landscape"
    assert not set(other.items()) & set(Lessons().identity().items())
