"""How the command line writes an option that a message names: `--lora` for "lora". Nothing below cli/ knows this."""

from __future__ import annotations

import shlex

from linfusion_cli.config.options import by_key
from linfusion_cli.errors import LinfusionError, Message, Option


def flag(option: Option) -> str:
    """`--size 8k`, `--overwrite`, `--no-prompt-weights`."""
    row = by_key().get(option.key)
    name = row.flag if row else "--" + option.key.replace("_", "-")
    if option.value is None or option.value is True:
        return name
    if option.value is False:
        return name.replace("--", "--no-", 1)
    return f"{name} {shlex.quote(str(option.value))}"


def told(text: object) -> str:
    """A text as the command line prints it: the options of a message or of an error as flags."""
    message = text.message if isinstance(text, LinfusionError) else text
    return message.spelled(flag) if isinstance(message, Message) else str(text)
