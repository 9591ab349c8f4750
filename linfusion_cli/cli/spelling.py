"""How the command line writes an option that a message names: `--lora` for "loras". Only cli/ spells flags."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.options import all_rows, by_key, options_of
from linfusion_cli.errors import LinfusionError, Message, Option
from linfusion_cli.flag_words import dashed, switched_off


def flags_of(row: OptionRow, command: str = "") -> tuple[str, ...]:
    """Every flag of a row on the line of a command, in the order of --help; () for an argument."""
    return tuple(dashed(word) for word in row.words_of(command))


def declarations(row: OptionRow, command: str = "") -> tuple[str, ...]:
    """The same as Typer reads them: a switch with the flag that switches it off, `--vae-tiling/--no-vae-tiling`."""
    words = row.words_of(command)
    return tuple(f"{dashed(word)}/{switched_off(word)}" for word in words) if row.is_switch else flags_of(row, command)


def speller(command: str) -> Callable[[str], str]:
    """A function from a flag as typed to ours: flags of other tools, also in capitals, and underscores for dashes.

    Given to the command as its `token_normalize_func`: "cfg_scale" and "cfg-scale" become "guidance".
    """

    def canonical(word: str) -> str:
        dashes, others = word.replace("_", "-"), other_words(command)
        small = dashes.lower() if len(dashes) > 1 else dashes  # A1111's --CLIP-stop-at-last-layers; -W is not -w
        return others.get(dashes) or others.get(small, dashes)

    return canonical


@cache
def other_words(command: str) -> dict[str, str]:
    """Names of other tools -> the first word of the row that a command offers."""
    rows = list(options_of(command))
    own = {word for row in rows for word in row.words_of(command)}
    return {other: row.words[0] for row in rows for other in row.other_names if other not in own}


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
        return switched_off(name)
    import shlex

    return f"{dashed(name)} {shlex.quote(str(option.value))}"


def told(text: object) -> str:
    """A text as the command line prints it: the options of a message or of an error as flags."""
    if isinstance(text, Option):
        return flag(text)
    message = text.message if isinstance(text, LinfusionError) else text
    return message.spelled(flag) if isinstance(message, Message) else str(text)
