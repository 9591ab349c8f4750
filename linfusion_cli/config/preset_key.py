"""One key of a preset: its type, what it may hold, and its comment in presets/defaults.toml."""

from __future__ import annotations

from dataclasses import dataclass

from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.value_range import Range, number_text


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetKey:
    """A key such as "sampling.steps". `help`, `details` and the range make its comment."""

    key: str
    kind: type  # of one value
    help: str
    details: str = ""
    range: Range | None = None
    choices: tuple[str, ...] = ()
    is_list: bool = False
    least_items: int = 0
    allowed: str = ""  # what it may hold, in words; "": as type and range say
    neutral: object = None  # the value that changes no pixel: jobs with it have the hash that they had before the key
    is_location: bool = False  # a record holds no folder of a local one

    @staticmethod
    def of(row: OptionRow) -> PresetKey:
        """The preset key of an option that has one."""
        return PresetKey(
            key=row.preset_key,
            kind=row.kind,
            help=row.preset_help or row.help,
            details="" if row.preset_help else row.details,
            range=row.range and row.range.moved(row.preset_offset),
            choices=row.choices,
            is_list=row.repeatable or row.preset_takes_list,
            least_items=row.least_items,
            allowed=row.allowed,
            neutral=row.neutral,
            is_location=row.is_location,
        )

    @property
    def comment(self) -> str:
        """What stands above it in presets/defaults.toml, in one line."""
        return " ".join(part for part in (self.help, self.details, self._limits) if part)

    @property
    def _limits(self) -> str:
        if self.choices:
            words = [word or '""' for word in self.choices]
            return f"One of {', '.join(words)}."
        if self.range is None:
            return ""
        limits = self.range.words(self.kind) if self.range.multiple_of > 1 else self.range.ends
        return f"{limits[0].upper()}{limits[1:]}."

    @property
    def description(self) -> str:
        """What to write, for messages: "a whole number from 1 to 500"."""
        if self.allowed:
            return self.allowed
        if self.range and self.is_list:
            return f"a list of numbers {self.range.ends}, like [{number_text(self.range.high)}]"
        if self.range:
            return self.range.words(self.kind)
        if self.is_list:
            return f'a list of {self.least_items} or more names, like ["owner/name", "a/folder"]'
        return "true or false" if self.kind is bool else 'a text in quotes, "" for none'
