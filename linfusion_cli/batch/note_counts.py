"""Counts the notes about the images of a batch: each text once, with the number of its images."""

from __future__ import annotations

from collections.abc import Iterable

from linfusion_cli.errors import counted

MOST_SHOWN = 20  # distinct notes; of the others the number


class NoteCounts:
    """Distinct notes in the order in which they were added."""

    def __init__(self) -> None:
        self._images: dict[str, set[str]] = {}

    def add(self, note: str, images: Iterable[str]) -> bool:
        """Adds a note about images, given by their ids; each image counts once.

        Returns True if the note is new and among the first MOST_SHOWN.
        """
        is_new = note not in self._images
        self._images.setdefault(note, set()).update(images)
        return is_new and len(self._images) <= MOST_SHOWN

    def counts(self) -> list[tuple[str, int]]:
        """Each note with the number of images that it concerns."""
        return [(note, len(images)) for note, images in self._images.items()]

    def images(self) -> frozenset[str]:
        """The ids of all images that a note concerns."""
        return frozenset().union(*self._images.values())

    def shown(self) -> list[tuple[str, str]]:
        """The first MOST_SHOWN notes, each with its number of images in words, and a line that counts the others."""
        counts = self.counts()
        first = [(note, counted(count, "image")) for note, count in counts[:MOST_SHOWN]]
        rest = len(counts) - MOST_SHOWN
        others = {image for _, images in list(self._images.items())[MOST_SHOWN:] for image in images}
        return [*first, (counted(rest, "other note"), counted(len(others), "image"))] if rest > 0 else first
