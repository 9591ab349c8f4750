"""Every JSON that a command prints is strict and holds no secret."""

from __future__ import annotations

import ast
import io
import json
import math
from pathlib import Path

import pytest

from linfusion_cli.cli.json_output import emit, json_text

CLI = Path(__file__).parents[2] / "linfusion_cli" / "cli"
SECRETS = {"token": "hf_" + "a1" * 17, "url": "https://me:password@hub.example/x", "list": [["hf_" + "B2" * 17]]}


def test_a_line_is_ascii_and_has_its_type_first() -> None:
    stream = io.StringIO()
    emit(stream, "note", {"text": "a\n\u202eé"})
    assert stream.getvalue() == '{"type": "note", "text": "a\\n\\u202e\\u00e9"}\n'


def test_secrets_are_left_out_and_the_rest_is_json() -> None:
    text = json_text(SECRETS)
    assert not any(secret in text for secret in ("hf_", "password"))
    assert json.loads(text) == {"token": "[secret]", "url": "https://[secret]hub.example/x", "list": [["[secret]"]]}


def test_numbers_that_json_lacks_are_an_error() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text({"value": math.nan})


@pytest.mark.parametrize("path", sorted(CLI.glob("*.py")), ids=lambda path: path.name)
def test_no_command_prints_json_in_another_way(path: Path) -> None:
    """json.dumps stands in no argument of a call that prints."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("typer.echo", "print", "announce"):
            assert "json.dumps" not in ast.unparse(node), f"{path.name}:{node.lineno}"
