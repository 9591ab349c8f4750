"""What a row of the table of options says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

GENERATE, UPSCALE, PLAN, BATCH = "generate", "upscale", "plan", "batch"
COMMANDS = frozenset({GENERATE, UPSCALE, PLAN, BATCH})


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionRow:
    """One option of generate, upscale, plan and batch, and of config/job.py's Request."""

    key: str  # the field of Request
    kind: type  # str, int, float, bool or Path: the type of one value
    flags: tuple[str, ...]  # every spelling, in the order of --help; "IMAGE" is a positional argument
    help: str
    recorded_flag: str = ""  # the spelling of messages and records; "": the first of `flags`
    default: str | bool | None = None  # None: as `default_from` says
    default_from: str = ""  # in words; "": nothing, or the preset where there is a preset key
    repeatable: bool = False
    metavar: str = ""
    panel: str = ""
    choices: tuple[str, ...] | Callable[[], Iterable[str]] = ()  # for the shell's completion
    commands: frozenset[str] = COMMANDS  # that offer it as a flag
    preset_key: str = ""  # "sampling.steps"; "": no preset sets it
    preset_takes_list: bool = False  # the preset key holds a list of alternatives, and this option names one
    decides_pixels: bool = True
    record_key: str = ""  # the record's own entry of this value; "": its overrides hold it, if it decides pixels
    is_location: bool = False  # of weights or an image: a record holds no folder of a local one
    in_batch_rows: bool = True  # a row of a prompt list may set it
    batch_aliases: tuple[str, ...] = ()  # other names for it in such a row

    @property
    def flag(self) -> str:
        """The spelling of messages and records."""
        return self.recorded_flag or self.flags[0]

    @property
    def is_positional(self) -> bool:
        """Whether it is typed without a flag."""
        return not self.flags[0].startswith("-")

    @property
    def is_switch(self) -> bool:
        """Whether it has a --no- form, for what a preset may have switched on."""
        return self.kind is bool and self.default is None

    @property
    def request_type(self) -> Any:
        """The type of Request's field."""
        if self.repeatable:
            return tuple.__class_getitem__((self.kind, ...))
        return self.kind if self.is_required or self.default is not None else self.kind | None

    @property
    def is_required(self) -> bool:
        """Whether a request can't be without it."""
        return self.key == "prompt"

    def completions(self, incomplete: str) -> list[str]:
        """The choices that begin as typed."""
        names = self.choices() if callable(self.choices) else self.choices
        return [name for name in names if name.startswith(incomplete)]
