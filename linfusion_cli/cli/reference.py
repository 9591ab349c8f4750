"""`make reference`: writes docs/reference.md, docs/json.md, man pages, generated fields, presets/defaults.toml."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from linfusion_cli.cli import json_reference, man_pages
from linfusion_cli.cli.spelling import declarations
from linfusion_cli.config.default_words import default_words
from linfusion_cli.config.defaults_comments import commented
from linfusion_cli.config.generated_fields import with_defaults, with_preset_fields, with_request_fields
from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.options import all_rows
from linfusion_cli.config.preset_files import shipped_folder
from linfusion_cli.files import write_atomically
from linfusion_cli.flag_words import dashed

PAGE = Path("docs/reference.md")  # from the folder of a checkout
REQUEST, SCHEMA = Path("linfusion_cli/config/request.py"), Path("linfusion_cli/config/preset_schema.py")
HEAD = """# Options

Every option of `generate`, `upscale`, `plan` and `batch`. This page is made from the table of options
(`linfusion_cli/config/option_rows.py`) by `make reference`; a test compares the two.
Each but the prompt, the image and the output is also a key of your `config.toml` and a variable, such as
`LINFUSION_STEPS`; `linfusion config` shows yours.

| flag | Python | preset key | in a prompt list | commands | what it does | default |
|---|---|---|---|---|---|---|"""


def reference() -> str:
    """docs/reference.md, in Markdown."""
    return "\n".join([HEAD, *_lines(), ""])


def _lines() -> Iterator[str]:
    """Yields the rows of the table, one for each option."""
    for row in all_rows():
        flags = ", ".join(f"`{flag}`" for flag in declarations(row) or (row.argument,))
        flags += f" {row.metavar}".rstrip()
        if more := ", ".join(f"`{dashed(word)}`" for word in row.other_names):
            flags += f" (also {more})"
        if more := ", ".join(f"`{dashed(word)}`" for word in row.upscale_names):
            flags += f" (in `upscale` also {more})"
        does = " ".join(part for part in (row.help, row.details, row.limits) if part)
        cells = (
            flags,
            f"`{row.key}`",
            _code(row.preset_key),
            _in_list(row),
            ", ".join(sorted(row.commands)),
            does,
            default_words(row),
        )
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _in_list(row: OptionRow) -> str:
    return ", ".join(f"`{name}`" for name in row.batch_names) if row.in_batch_rows else ""


def write_all() -> None:
    """Writes what the tables make into the checkout that is the current folder: fields, presets/defaults.toml, page."""
    for source, made in ((REQUEST, with_request_fields), (SCHEMA, with_preset_fields)):
        write_atomically(source, made(source.read_text(encoding="utf-8")))
    defaults = shipped_folder() / "defaults.toml"
    write_atomically(defaults, commented(with_defaults(defaults.read_text(encoding="utf-8"))))
    write_atomically(PAGE, reference())
    man_pages.write_man_pages()
    write_atomically(json_reference.PAGE, json_reference.json_reference())


if __name__ == "__main__":
    write_all()
