"""`make man`: the man pages of the commands, from what --help shows: linfusion.1 and linfusion-COMMAND.1."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from linfusion_cli import __version__
from linfusion_cli.cli.help_panels import sections
from linfusion_cli.files import write_atomically

FOLDER = Path("man")  # from the folder of a checkout; the wheel puts it into share/man/man1
CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"
NAME = "linfusion"
MANUAL = "User Commands"
EXIT_CODES = (  # errors.py has the families
    ("0", "done"),
    ("1", "another error, or an image of a batch failed"),
    ("2", "wrong use: a flag, a preset or a prompt"),
    ("4", "not enough memory"),
    ("66", "weights are missing or damaged"),
    ("69", "another process of the same image was lost"),
    ("74", "a file can't be written"),
    ("75", "another process works on the same thing; try later"),
    ("129, 130, 143, 152", "stopped by SIGHUP, Ctrl-C, SIGTERM or SIGXCPU"),
    ("141", "nobody reads standard output any more"),
)
FILES = (
    ("~/.config/linfusion/config.toml", "your own defaults, which linfusion config shows"),
    ("~/.config/linfusion/presets", "your own presets, which linfusion presets list names"),
)


def man_pages() -> dict[str, str]:
    """Each page by its file name."""
    from linfusion_cli.cli.app import app

    root: Any = get_command(app)
    context = root.make_context(NAME, [], resilient_parsing=True)
    found = {f"{NAME}.1": _page((NAME,), root, context, _main_parts(root))}
    for words, command, inner in _commands(root, context, (NAME,)):
        found["-".join(words) + ".1"] = _page(words, command, inner, ())
    return found


def write_man_pages() -> None:
    """Writes every page into the checkout that is the current folder, and removes those of commands that are gone."""
    pages = man_pages()
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages.items():
        write_atomically(FOLDER / name, text)
    for path in FOLDER.glob("*.1"):
        if path.name not in pages:
            path.unlink()


def _commands(group: Any, context: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Each command below a group, groups too: its words, the command, and its context."""
    for name, command in group.commands.items():
        inner = type(context)(command, info_name=name, parent=context, **command.context_settings)
        yield (*words, name), command, inner
        if hasattr(command, "commands"):
            yield from _commands(command, inner, (*words, name))


def _page(words: tuple[str, ...], command: Any, context: Any, more: tuple[str, ...]) -> str:
    summary = (command.help or "").strip().split("\n")[0].rstrip(".")
    usage = context.command.collect_usage_pieces(context)
    lines = [
        f'.\\" Made by `make man` from what {" ".join(words)} --help shows.',
        f'.TH {"-".join(words).upper()} 1 "{_date()}" "{NAME} {__version__}" "{MANUAL}"',
        ".SH NAME",
        f"{_text('-'.join(words))} \\- {_text(summary[:1].lower() + summary[1:])}",
        ".SH SYNOPSIS",
        f".B {_text(' '.join(words))}",
        _text(" ".join(usage)),
        ".SH DESCRIPTION",
        _text((command.help or "").strip()),
        *_options(command, context),
        *_epilog(command.epilog or ""),
        *more,
        *_see_also(words, command),
    ]
    return "\n".join(lines) + "\n"


def _date() -> str:
    """When this version was released, by the changelog."""
    heading = re.search(rf"^## {re.escape(__version__)} .*?([0-9-]+)\)$", CHANGELOG.read_text(encoding="utf-8"), re.M)
    return heading[1] if heading else ""


def _options(command: Any, context: Any) -> Iterator[str]:
    found = sections(command, context)
    for title, records in found.items():
        yield f".SH {title.upper()}" if title in ("Arguments", "Options") else f".SS {_text(title)}"
        for flags, what in records:
            yield from (".TP", f".B {_text(flags)}", _text(what) or "\\&")


def _main_parts(root: Any) -> tuple[str, ...]:
    lines = [".SH COMMANDS"]
    for name, command in root.commands.items():
        lines += [".TP", f".B {_text(name)}", _text((command.help or "").strip().split("\n")[0])]
    for title, pairs in (("EXIT STATUS", EXIT_CODES), ("FILES", FILES)):
        lines.append(f".SH {title}")
        for name, what in pairs:
            lines += [".TP", f".B {_text(name)}", _text(what)]
    return tuple(lines)


def _epilog(epilog: str) -> Iterator[str]:
    r"""The paragraphs below the options; those that begin with \b keep their lines, as in --help."""
    for paragraph in re.split(r"\n\s*\n", epilog.strip()):
        kept = paragraph.startswith("\b")
        lines = paragraph.removeprefix("\b").strip("\n").split("\n")
        title, rest = lines[0], lines[1:]
        if title.startswith("Examples"):
            yield from (".SH EXAMPLES", *([] if title == "Examples:" else [_text(title)]))
            yield from (".nf", *(_text(line.strip()) for line in rest), ".fi")
        elif kept:
            yield from (".PP", ".nf", *map(_text, lines), ".fi")
        elif any(lines):
            yield from (".PP", *map(_text, lines))


def _see_also(words: tuple[str, ...], command: Any) -> Iterator[str]:
    inner = [f"{'-'.join(words)}-{name}" for name in getattr(command, "commands", ())]
    others = [*(["-".join(words[:-1])] if len(words) > 1 else []), *inner]
    yield ".SH SEE ALSO"
    yield ",\n".join(f".BR {_text(name)} (1)" for name in others).replace(" (1),\n", " (1),\n")


def _text(text: str) -> str:
    """A text as roff reads it: backslashes, dashes and quotes as they are, no line a request."""
    clean = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    clean = clean.replace("^", "\\(ha").replace("~", "\\(ti")
    clean = "".join(letter if letter.isascii() else f"\\[u{ord(letter):04X}]" for letter in clean)
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in clean.split("\n"))


if __name__ == "__main__":
    write_man_pages()
