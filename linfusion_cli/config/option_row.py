"""What a row of the table of options says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from linfusion_cli.config.value_range import Range

GENERATE, UPSCALE, PLAN, BATCH = "generate", "upscale", "plan", "batch"
COMMANDS = frozenset({GENERATE, UPSCALE, PLAN, BATCH})


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionRow:
    """One option of generate, upscale, plan and batch, and of config/request.py's Request.

    The sentences of `help`, `details`, the range and the choices make its help, its comment in presets/defaults.toml
    and its line of the reference page.
    """

    key: str  # the field of Request
    kind: type  # str, int, float, bool or Path: the type of one value
    help: str  # what it does, in sentences: shown everywhere
    details: str = ""  # more sentences, for presets/defaults.toml and the reference page
    names: tuple[str, ...] = ()  # words that name it on a command line, in the order of --help; (): its key
    argument: str = ""  # "IMAGE": it has no such name, its value alone is typed
    recorded_name: str = ""  # the one of `names` that messages and records use; "": the first
    other_names: tuple[str, ...] = ()  # of other tools: understood, and listed on the reference page alone
    upscale_names: tuple[str, ...] = ()  # more words, of the command upscale alone
    default: str | bool | None = None  # None: as `default_from` says
    default_from: str = ""  # in words; "": nothing, or the preset where there is a preset key
    upscale_default_from: str = ""  # the same of the command upscale, where that differs
    repeatable: bool = False
    metavar: str = ""
    panel: str = ""
    range: Range | None = None  # of each value
    choices: tuple[str, ...] = ()  # every allowed word; (): any text
    suggestions: tuple[str, ...] | Callable[[], Iterable[str]] = ()  # for the shell, where other values are allowed too
    commands: frozenset[str] = COMMANDS  # that offer it
    preset_key: str = ""  # "sampling.steps"; "": no preset sets it
    preset_offset: int = 0  # added to the value for the preset key, and for the record
    preset_help: str = ""  # what the preset key is, where that is not `help` and `details`
    preset_takes_list: bool = False  # the preset key holds a list of alternatives, and this option names one
    least_items: int = 0  # of that list
    allowed: str = ""  # what the preset key may hold, in words; "": as type, range and choices say
    neutral: object = None  # of a new preset key: its default, which changes no pixel and is no part of a job's hash
    decides_pixels: bool = True
    record_key: str = ""  # the record's own entry of this value; "": its overrides hold it, if it decides pixels
    recorded_as_list: bool = False  # the record's overrides hold it as a list of one
    belongs_to: str = ""  # the key of the option without which it means nothing, and is no default of a user
    is_input: bool = False  # an image to start from: --help shows it beside the prompt
    is_location: bool = False  # of weights or an image: a record holds no folder of a local one
    is_search_path: bool = False  # its variable holds several as PATH does, with ":" between them (Windows: ";")
    in_batch_rows: bool = True  # a row of a prompt list may set it
    batch_aliases: tuple[str, ...] = ()  # more names for it in such a row, beside its words

    @property
    def words(self) -> tuple[str, ...]:
        """The names on a command line, without dashes: ("negative", "negative-prompt"); () for an argument."""
        return () if self.argument else self.names or (self.key.replace("_", "-"),)

    def words_of(self, command: str) -> tuple[str, ...]:
        """The same on the line of one command."""
        return (*self.words, *(self.upscale_names if command == UPSCALE else ()))

    @property
    def batch_names(self) -> tuple[str, ...]:
        """What a row of a prompt list may call it: its key first, then its words with underscores."""
        words = [word.replace("-", "_") for word in (*self.words, *self.other_names) if len(word) > 1]
        return tuple(dict.fromkeys((self.key, *words, *self.batch_aliases)))

    @property
    def name(self) -> str:
        """The name in messages and records: "steps", "negative-prompt", "IMAGE"."""
        return self.argument or self.recorded_name or self.words[0]

    @property
    def is_switch(self) -> bool:
        """Whether it can be switched off, too, as a preset may have switched it on."""
        return self.kind is bool and self.default is None

    @property
    def request_type(self) -> Any:
        """The type of Request's field."""
        if self.repeatable:
            return tuple.__class_getitem__((self.kind, ...))
        return self.kind if self.is_required or self.default is not None else self.kind | None

    @property
    def names_weights(self) -> bool:
        """Whether its values are locations of weights, which a folder of models gives names."""
        return self.is_location and self.kind is str

    @property
    def is_required(self) -> bool:
        """Whether a request can't be without it."""
        return self.key == "prompt"

    @property
    def limits(self) -> str:
        """A sentence of the range or the choices: "From 1 to 500."; "" for a text without choices."""
        if self.range is not None:
            limits = self.range.words(self.kind) if self.range.multiple_of > 1 else self.range.ends
            return f"{limits[0].upper()}{limits[1:]}."
        return f"One of {', '.join(self.choices)}." if self.choices and "|" not in self.metavar else ""

    def completions(self, incomplete: str) -> list[str]:
        """The choices that begin as typed."""
        names = self.choices or (self.suggestions() if callable(self.suggestions) else self.suggestions)
        return [name for name in names if name.startswith(incomplete)]
