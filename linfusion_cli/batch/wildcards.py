"""Wildcards: __name__ in a prompt is replaced by a line of NAME.txt that the seed chooses."""

from __future__ import annotations

import hashlib
import itertools
import re
from pathlib import Path

from linfusion_cli.batch.list_text import decoded, filled_lines
from linfusion_cli.batch.prompt_choices import count_texts, text_at
from linfusion_cli.errors import UsageError, nearest
from linfusion_cli.files import read_regular

NAME = re.compile(r"__([^\W_](?:[\w\-/]*?[^\W_])?)__")
LARGEST_FILE_BYTES = 16 << 20
MOST_DEPTH = 20  # of wildcards inside the lines of others


class Wildcards:
    """The wildcard files of a folder, each read once: a choice a line, # for comments, __other__ and {a|b} inside."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError for what is no folder."""
        if not folder.is_dir():
            raise UsageError(f"{folder}: there is no such folder", parameter="wildcards")
        self._folder = folder
        self._files: dict[str, list[str]] = {}

    def filled(self, prompt: str, seed: int) -> str:
        """The prompt with a line for each wildcard: the same lines for the same prompt, seed and files.

        Raises UsageError for a wildcard without a file, a file that can't be read, and wildcards that name each other.
        """
        counter = itertools.count()

        def replaced(match: re.Match[str], depth: int) -> str:
            if depth > MOST_DEPTH:
                raise UsageError(f"{match[0]}: wildcards name each other without end")
            lines = self._lines(match[1])
            line = lines[_drawn(len(lines), f"{seed}:{next(counter)}:{match[1]}")]
            text = text_at(line, _drawn(count_texts(line), f"{seed}:{next(counter)}:choice"))
            return NAME.sub(lambda inner: replaced(inner, depth + 1), text)

        return NAME.sub(lambda match: replaced(match, 1), prompt)

    def _lines(self, name: str) -> list[str]:
        if name not in self._files:
            self._files[name] = self._read(name)
        return self._files[name]

    def _read(self, name: str) -> list[str]:
        """The lines of a wildcard's file, without comments. Raises UsageError if it is missing, unreadable or empty."""
        path = self._folder / f"{name}.txt"
        try:
            text = decoded(read_regular(path, LARGEST_FILE_BYTES), str(path))
        except FileNotFoundError as error:
            there = [str(file.relative_to(self._folder).with_suffix("")) for file in self._folder.rglob("*.txt")]
            advice = nearest(name, there) if there else f"There is no .txt file in {self._folder}"
            raise UsageError(f"__{name}__: there is no {path}. {advice}") from error
        except OSError as error:
            raise UsageError(f"__{name}__: {path} can't be read: {error.strerror or error}") from error
        lines = [line.strip() for _, line in filled_lines(text) if not line.lstrip().startswith("#")]
        if not lines:
            raise UsageError(f"__{name}__: {path} has no line to choose")
        return lines


def _drawn(count: int, key: str) -> int:
    """A number from 0 to count - 1, chosen by a hash of the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % count
