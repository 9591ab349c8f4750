"""Every error that a user can meet, and the exit code of each family.

    LinfusionError                1   anything else that went wrong
    ├── UsageError                2   the command, a preset or a prompt is not what it may be
    ├── OutOfMemoryError          4   no plan fits into the memory that is there or allowed
    ├── WeightsError             66   weights are missing, damaged or of another model
    ├── RanksError               69   another process or machine is gone, silent, out of reach or at work on another job
    ├── OutputError              74   the image can't be written (path, permission, space)
    ├── BusyError                75   somebody else works on the same thing; try later
    └── StandardOutputError     141   nobody reads standard output any more, or its disk is full

Interrupts end with 129 (SIGHUP), 130 (Ctrl-C), 143 (SIGTERM) and 152 (SIGXCPU). Messages say the value given, what is
allowed, and the nearest valid one or the next command to type.

No message below cli/ spells a flag. An error about one option names it as `parameter`, and a message that mentions
another option holds an Option part:

    raise WeightsError(f"{path}: holds no autoencoder", parameter="vae")
    raise OutputError(f"{path} already exists; use ", option("overwrite"), " or another ", option("output"))
    notify(Note(text=Message("stage 1 was not kept. ", option("restart"), " makes it again")))

Python users read "vae FILE: ..." and "use overwrite"; the command line prints both with the dashes of a flag.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

CLOSE, SHORTEST_PREFIX = 0.7, 3  # of nearest_name: how like a name must be, and letters of the beginning of one
MOST_CHARACTERS = 400  # of one line of a message
HUNG_UP = 129
INTERRUPTED = 130
TERMINATED = 143
OUT_OF_TIME = 152
# Words of torch on CPUs and GPUs, oneDNN, cuDNN, cuBLAS, MIOpen, rocBLAS and Metal. A library that can't allocate its
# workspace often says only that it found no way to compute.
NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "could not create a primitive",
    "cudnn_status_alloc_failed",
    "cudnn_status_internal_error_host_allocation_failed",
    "cudnn_status_internal_error_device_allocation_failed",
    "cublas_status_alloc_failed",
    "cublas_status_not_initialized",
    "unable to find an engine to execute this computation",
    "find was unable to find an engine",
    "cuda_error_out_of_memory",
    "cudaerrormemoryallocation",
    "hiperroroutofmemory",
    "miopenstatusallocfailed",
    "rocblas_status_memory_error",
    "insufficient memory",
    "invalid buffer size",
)


MOST_LISTED = 20  # lines of one kind that are shown
Text = TypeVar("Text")
Value = str | int | float | None


@dataclass(frozen=True, slots=True)
class Option:
    """An option that a message mentions, by its Python name, perhaps with a value to give it."""

    key: str  # a key or an alias of config/options.py, or another parameter of a command: "lora", "keep_going"
    value: Value = None

    def __str__(self) -> str:
        """As Python users write it: `overwrite`, `size="8k"`, `steps=30`."""
        if self.value is None:
            return self.key
        return f"{self.key}={json.dumps(self.value, ensure_ascii=False) if isinstance(self.value, str) else self.value}"


def option(key: str, value: Value = None) -> Option:
    """A part of a message: the option `key`, or the advice to set it to `value`."""
    return Option(key, value)


Spell = Callable[[Option], str]
QUOTES_PROMPT = Option("")  # a part that shows nothing: the message quotes the prompt or the negative prompt


class Message(str):
    """A text for Python users that remembers which of its parts are options, so that the command line can print flags.

    Parts are texts, options, and other messages or errors, which are taken over with their options. Every line is cut
    in its middle to MOST_CHARACTERS. A message that is formatted into another text becomes plain: pass it as a part.
    """

    parts: tuple[str | Option, ...]

    def __new__(cls, *parts: str | Option | LinfusionError) -> Message:
        flat = tuple(inner for part in parts for inner in _flat(part))
        text = super().__new__(cls, _rendered(flat, str))
        text.parts = flat
        return text

    def spelled(self, spell: Spell) -> str:
        """The text with every option as `spell` writes it."""
        return _rendered(self.parts, spell)

    @property
    def quotes_prompt(self) -> bool:
        """Whether it quotes the prompt or the negative prompt, so that files without them must not hold it."""
        return QUOTES_PROMPT in self.parts

    def as_json(self) -> list[str | list[Value]]:
        """The parts for from_json(), to cross a process border."""
        return [part if isinstance(part, str) else [part.key, part.value] for part in self.parts]

    @staticmethod
    def from_json(parts: str | Sequence[str | Sequence[Value]]) -> Message:
        """The message that as_json() was made from; a plain text is a message without options."""
        if isinstance(parts, str):
            return Message(parts)
        return Message(*(part if isinstance(part, str) else Option(str(part[0]), part[1]) for part in parts))


def _flat(part: str | Option | LinfusionError) -> tuple[str | Option, ...]:
    inner = part.message if isinstance(part, LinfusionError) else part
    return inner.parts if isinstance(inner, Message) else (inner,)


def _rendered(parts: Iterable[str | Option], spell: Spell) -> str:
    shown = (part for part in parts if part != QUOTES_PROMPT)
    text = "".join(part if isinstance(part, str) else spell(part) for part in shown)
    return "\n".join(_shortened(line) for line in text.split("\n"))


def _shortened(line: str) -> str:
    """The line without its middle if it is too long: the beginning names what is wrong, the end says what to do."""
    half = (MOST_CHARACTERS - 5) // 2
    return line if len(line) <= MOST_CHARACTERS else f"{line[:half]} ... {line[-half:]}"


class LinfusionError(Exception):
    """The root: caught by the command line alone, and shown without a traceback.

    parts: the message; see Message. parameter: the option that is wrong; its name is put before the message, which
    then starts with the value given.
    """

    exit_code = 1

    def __init__(self, *parts: str | Option | LinfusionError, parameter: str = "") -> None:
        self.parameter = parameter
        self.message = Message(Option(parameter), " ", *parts) if parameter else Message(*parts)
        super().__init__(self.message)

    def __str__(self) -> str:
        return str(self.message)


class UsageError(LinfusionError):
    """A value that the user gave can't be used."""

    exit_code = 2


class OutOfMemoryError(LinfusionError):
    """No plan fits into the memory that is there or allowed, or memory ran out."""

    exit_code = 4


class WeightsError(LinfusionError):
    """Weights are missing, damaged, or do not fit the model."""

    exit_code = 66


class NotFiniteError(WeightsError):
    """A network computed NaN or infinity: its weights are damaged, or the number format is too narrow for them."""


class RanksError(LinfusionError):
    """Another process that makes the same image is gone, silent, or does not do the same work."""

    exit_code = 69


class ClusterError(RanksError):
    """A cluster can't be reached, or its machines can't take part: another folder, another version, none left."""


class OutputError(LinfusionError):
    """The image can't be written where it should be."""

    exit_code = 74


class DiskFullError(OutputError):
    """There is no room left for the image, nor for any that comes after it."""


class BusyError(LinfusionError):
    """Another process holds what this one needs."""

    exit_code = 75


class StandardOutputError(LinfusionError):
    """Standard output can't be written: its reader has gone (a broken pipe), its disk is full, or it is closed."""

    exit_code = 141  # 128 + SIGPIPE, as shells show it

    def __init__(self, reason: str, *, reader_gone: bool = False) -> None:
        self.reader_gone = reader_gone
        super().__init__(f"standard output can't be written: {reason}")


def quotes_prompt(text: str) -> bool:
    """Whether a text is a message that quotes the prompt or the negative prompt."""
    return isinstance(text, Message) and text.quotes_prompt


def first_of(texts: Sequence[Text], word: str, *, keep_last: bool = False) -> list[Text | str]:
    """The first texts of a long list, and one that counts the others as `word`s: nobody reads 20,000 lines.

    keep_last: the last text, which says what to do, is shown after all.
    """
    end = list(texts[-1:]) if keep_last else []
    rest = texts[: len(texts) - len(end)]
    if len(rest) <= MOST_LISTED:
        return list(texts)
    return [*rest[:MOST_LISTED], f"and {counted(len(rest) - MOST_LISTED, f'other {word}')}", *end]


def counted(count: int, word: str, words: str = "") -> str:
    """ "1 image" or "2 images"; `words` where an s is not enough."""
    return f"{count:,} {word if count == 1 else words or f'{word}s'}"


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python or torch says that memory ran out."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error).lower() for text in NO_MEMORY)
    )


def nearest(given: str, allowed: Iterable[str], aliases: Mapping[str, str] | None = None) -> str:
    """A closing sentence for an unknown name: the one that was most likely meant, or all that are allowed."""
    names = sorted(allowed)
    close = nearest_name(given, names, aliases)
    return f'Did you mean "{close}"?' if close else "Allowed: " + ", ".join(names)


def nearest_name(given: str, allowed: Iterable[str], aliases: Mapping[str, str] | None = None) -> str:
    """The allowed name that was most likely meant; "" if none is close.

    aliases: what other tools say for an allowed name ("fp16" for "float16"). One of them comes first, then the same
    name in other letters and marks ("SDXL 4K" is "sdxl-4k"), then one that goes on where the given one ends ("cfg" is
    "cfg_scale"), then one of which at most some three letters in ten differ: what two words share by chance is not
    close ("n_iter" is not "ip_adapter").
    """
    names = {_plain(name): name for name in sorted(allowed, reverse=True)}
    word = _plain(given)
    for other, name in (aliases or {}).items():
        if _plain(other) == word and _plain(name) in names:
            return names[_plain(name)]
    longer = [name for name in sorted(names) if _goes_on(word, name)]
    close = word if word in names else min(longer, key=len, default="")
    return names.get(close or next(iter(difflib.get_close_matches(word, sorted(names), 1, CLOSE)), ""), "")


def _goes_on(beginning: str, name: str) -> bool:
    """Whether a name begins so, up to one of its parts ("cfg" of "cfg_scale"), or with most of its letters."""
    if len(beginning) < SHORTEST_PREFIX or not name.startswith(beginning):
        return False
    return name[len(beginning) :].startswith("_") or 2 * len(beginning) >= len(name)


def _plain(name: str) -> str:
    """A name in lower case, with one "_" between its parts."""
    return re.sub(r"[\s_-]+", "_", name.strip().lower())
