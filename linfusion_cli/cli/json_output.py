"""JSON on stdout: strict, in ASCII and without secrets, in one place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TextIO


def emit(stream: TextIO, kind: str, fields: Mapping[str, Any]) -> None:
    """Writes one line of JSON, {"type": kind, ...}, and flushes it. Raises ValueError for a number that JSON lacks."""
    print(json_text({"type": kind, **fields}), file=stream, flush=True)


def json_text(fields: Mapping[str, Any]) -> str:
    """JSON in ASCII, so that no control character gets through; tokens and passwords are left out."""
    from linfusion_cli.redaction import redacted

    return redacted(json.dumps(fields, allow_nan=False))
