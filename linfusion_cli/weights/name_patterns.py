"""What tables of patterns say of the names of tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping


def first_named(names: Iterable[str], table: Mapping[str, str]) -> tuple[str, str] | None:
    """The first name that a pattern of the table fits from end to end, and what the table says of it; None for none."""
    patterns = {re.compile(pattern): what for pattern, what in table.items()}
    return next(((name, what) for name in names for pattern, what in patterns.items() if pattern.fullmatch(name)), None)
