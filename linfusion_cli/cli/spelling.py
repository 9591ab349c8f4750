"""How the command line writes an option that a message names: `--lora` for "loras". Nothing below cli/ knows this."""

from __future__ import annotations

from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.options import all_rows, by_key
from linfusion_cli.errors import LinfusionError, Message, Option


def dashed(word: str) -> str:
    """`--steps` for "steps", `-o` for "o"."""
    return f"-{word}" if len(word) == 1 else f"--{word}"


def flags_of(row: OptionRow) -> tuple[str, ...]:
    """Every flag of a row, in the order of --help; () for an argument."""
    return tuple(dashed(word) for word in row.words)


def declarations(row: OptionRow) -> tuple[str, ...]:
    """The same as Typer reads them: a switch with the flag that switches it off, `--vae-tiling/--no-vae-tiling`."""
    return tuple(f"--{word}/--no-{word}" for word in row.words) if row.is_switch else flags_of(row)


def words_of_pixels() -> frozenset[str]:
    """The words of options that decide pixels and name no file, no repository and no URL.

    Only these may come from a stranger's record into a command: who makes an image again chooses the others.
    """
    return frozenset(
        word for row in all_rows() if row.decides_pixels and not row.is_location for word in row.words if len(word) > 1
    )


def flag(option: Option) -> str:
    """`--size 8k`, `--overwrite`, `--no-prompt-weights`."""
    row = by_key().get(option.key)
    name = option.key.replace("_", "-") if row is None else row.name
    if row is not None and row.argument:
        return name
    if option.value is None or option.value is True:
        return dashed(name)
    if option.value is False:
        return f"--no-{name}"
    import shlex

    return f"{dashed(name)} {shlex.quote(str(option.value))}"


def told(text: object) -> str:
    """A text as the command line prints it: the options of a message or of an error as flags."""
    if isinstance(text, Option):
        return flag(text)
    message = text.message if isinstance(text, LinfusionError) else text
    return message.spelled(flag) if isinstance(message, Message) else str(text)
