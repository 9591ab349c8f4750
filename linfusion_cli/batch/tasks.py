"""Rows become tasks: lists and {a|b} are multiplied out, seeds are fixed, and every task gets its id and its file's name."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import types
import typing
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from linfusion_cli.batch.prompts import Row
from linfusion_cli.errors import UsageError, nearest
from linfusion_cli.job import LARGEST_SEED, Kind, Request

MOST_TASKS = 1_000_000
NAME_TEMPLATE = "{slug}-{seed}-{id}"
ALIASES = {
    "negative": "negative_prompt",
    "cfg_scale": "guidance",
    "guidance_scale": "guidance",
    "sampler": "scheduler",
    "sampler_name": "scheduler",
    "seeds": "seed",
    "lora": "loras",
    "controlnet": "controlnets",
    "control_image": "control_images",
    "ip_image": "ip_images",
}
NOT_IN_ROWS = frozenset({"index", "output", "overwrite", "stages_folder", "memory_log", "checkpoint_seconds", "restart"})
CHOICE = re.compile(r"\{([^{}|]*(?:\|[^{}|]*)+)}")
RANGE = re.compile(r"(\d{1,10})\.\.(\d{1,10})")


@dataclass(frozen=True, slots=True)
class Task:
    """One picture of a batch. id: the job's hash, which no position and no name is part of."""

    id: str
    place: str
    prompt: str
    seed: int
    name: str
    kind: Kind

    def request(self, folder: Path, *, overwrite: bool) -> Request:
        """What is asked for."""
        return dataclasses.replace(self.kind.request, prompt=self.prompt, seed=self.seed, output=folder / self.name, overwrite=overwrite)


def row_types() -> dict[str, object]:
    """The keys that a row may have, with the types of their values: those of Request, but for what is the batch's."""
    hints = typing.get_type_hints(Request)
    return {name: hint for name, hint in hints.items() if name not in NOT_IN_ROWS}


def make_tasks(
    rows: Sequence[Row], common: Mapping[str, object], template: str, numbers: Callable[[Sequence[str]], Mapping[str, int]], problems: list[str]
) -> list[Task]:
    """The tasks of the rows, each once, grouped so that models are loaded rarely. What is wrong goes to `problems`.

    common: values for rows that do not say otherwise. numbers: gives each id the number that it keeps, for {index}.
    """
    maker = _Maker(common, problems)
    found = [task for row in rows for task in maker.tasks_of(row)]
    unique = list({task.id: task for task in reversed(found)}.values())[::-1]
    given = numbers([task.id for task in unique]) if "{index" in template else {}
    named = _named(unique, template, given, problems)
    groups = {kind: place for place, kind in enumerate(dict.fromkeys(task.kind for task in named))}
    return sorted(named, key=lambda task: groups[task.kind])


class _Maker:
    def __init__(self, common: Mapping[str, object], problems: list[str]) -> None:
        self._common, self._problems = common, problems
        self._types = row_types()
        self._kinds: dict[Request, Kind] = {}
        self._plain: dict[tuple[tuple[str, object], ...], Kind] = {}
        self._seen: dict[tuple[Kind, str], int] = {}
        self._count = 0

    def tasks_of(self, row: Row) -> Iterator[Task]:
        try:
            values = {**self._common, **self._canonical(row.values)}
            for choice in self._multiplied(values):
                yield self._task(row.place, choice)
        except UsageError as error:
            self._problems.append(f"{row.place}: {error}")

    def _canonical(self, values: Mapping[str, object]) -> dict[str, object]:
        """The values under the names of Request."""
        found: dict[str, object] = {}
        for given, value in values.items():
            key = given.strip().lower().replace("-", "_")
            key = ALIASES.get(key, key)
            if key not in self._types and key not in ("width", "height"):
                raise UsageError(f'unknown key "{given}". {nearest(key, [*self._types, *ALIASES])}')
            if key in found:
                raise UsageError(f'"{given}" is given twice')
            found[key] = value
        if "width" in found or "height" in found:
            if "size" in found or not {"width", "height"} <= found.keys():
                raise UsageError("give width and height, or size")
            found["size"] = f"{found.pop('width')}x{found.pop('height')}"
        return found

    def _multiplied(self, values: Mapping[str, object]) -> Iterator[dict[str, object]]:
        """Every combination of the lists' values and the prompt's choices."""
        if "prompt" not in values:
            raise UsageError("there is no prompt")
        lists = {key: self._choices(key, value) for key, value in values.items()}
        count = math.prod(len(choices) for choices in lists.values())
        self._count += count
        if self._count > MOST_TASKS:
            raise UsageError(f"with its {count:,} combinations the list has more than {MOST_TASKS:,} pictures")
        for combination in itertools.product(*lists.values()):
            yield dict(zip(lists, combination, strict=True))

    def _choices(self, key: str, value: object) -> list[object]:
        hint = self._types[key]
        if key == "seed" and isinstance(value, str):
            return list(seeds_of(value))
        if isinstance(value, list) and (not _is_list(hint) or any(isinstance(item, list) for item in value)):
            if not value:
                raise UsageError(f"{key} = []: an empty list makes no picture")
            return [choice for item in value for choice in self._choices(key, item)]
        if key == "prompt":
            return list(chosen(_converted(key, value, hint)))
        return [_converted(key, value, hint)]

    def _task(self, place: str, values: Mapping[str, object]) -> Task:
        kind = self._kind({key: value for key, value in values.items() if key not in ("prompt", "seed")})
        prompt = kind.checked_prompt(str(values["prompt"]))
        if "\0" in prompt:
            raise UsageError("the prompt holds a NUL character")
        seed = values.get("seed")
        if seed is None:
            return self._unseeded(place, prompt, kind)
        return Task(kind.id_of(prompt, cast_int(seed)), place, prompt, cast_int(seed), "", kind)

    def _unseeded(self, place: str, prompt: str, kind: Kind) -> Task:
        """A seed that the words give, not the place: the same list gives the same pictures, and the same line twice gives two."""
        repeat = self._seen.get((kind, prompt), 0)
        self._seen[kind, prompt] = repeat + 1
        seed = kind.seed_for(prompt, repeat)
        return Task(kind.id_of(prompt, seed), place, prompt, seed, "", kind)

    def _kind(self, values: Mapping[str, object]) -> Kind:
        plain = tuple(sorted(values.items()))
        if plain not in self._plain:
            request = Request(prompt="", **values)  # type: ignore[arg-type]
            self._plain[plain] = self._kinds.setdefault(request, Kind(request))
        return self._plain[plain]


def _named(tasks: Sequence[Task], template: str, numbers: Mapping[str, int], problems: list[str]) -> list[Task]:
    owners: dict[str, Task] = {}
    named: list[Task] = []
    for task in tasks:
        try:
            name = task.kind.name_of(template, task.prompt, task.seed, numbers.get(task.id, 0), task.id, "--name")
        except UsageError as error:
            problems.append(f"{task.place}: {error}")
            if len(problems) > 100:  # a bad template is bad for every row
                break
            continue
        # Some file systems take "É.png", "é.png" and "é.png" (two characters) for the same name.
        owner = owners.setdefault(unicodedata.normalize("NFC", name).casefold(), task)
        if owner is not task:
            problems.append(f'{task.place}: "{name}" is the name of {owner.place} too. Put {{id}} or {{seed}} into --name')
        named.append(Task(task.id, task.place, task.prompt, task.seed, name, task.kind))
    return named


def chosen(text: str) -> Iterator[str]:
    """Every text that {a|b} stands for, the first choices first; braces without | are left as they are."""
    match = CHOICE.search(text)
    if match is None:
        yield text
        return
    for choice in match[1].split("|"):
        yield from chosen(text[: match.start()] + choice + text[match.end() :])


def seeds_of(text: str) -> Iterator[int]:
    """The seeds of "7", "1..8" or "1,5,20..29". Raises UsageError for anything else."""
    for part in text.split(","):
        word = part.strip()
        span = RANGE.fullmatch(word)
        if not span and not re.fullmatch(r"\d{1,10}", word):
            raise UsageError(f'seeds "{text}": write numbers and ranges, like 7 or 1..8 or 1,5,20..29')
        first, last = (int(span[1]), int(span[2])) if span else (int(word), int(word))
        if last < first or last > LARGEST_SEED or last - first >= MOST_TASKS:
            raise UsageError(f'seeds "{text}": write them upwards, from 0 to {LARGEST_SEED}, {MOST_TASKS:,} at most')
        yield from range(first, last + 1)


def cast_int(value: object) -> int:
    """A seed that _converted has let through."""
    assert isinstance(value, int)
    return value


def _is_list(hint: object) -> bool:
    return typing.get_origin(hint) is tuple


def _converted(key: str, value: object, hint: object) -> typing.Any:
    """A value of a row as Request wants it. Raises UsageError for one that can't be meant."""
    kinds = set(typing.get_args(hint)) if isinstance(hint, types.UnionType) else {hint}
    text = isinstance(value, str)
    if _is_list(hint):
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_converted(key, item, typing.get_args(hint)[0]) for item in items)
    if bool in kinds and (isinstance(value, bool) or (text and str(value).lower() in ("true", "false"))):
        return value if isinstance(value, bool) else str(value).lower() == "true"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{key} = {value!r:.60}: write {_wanted(kinds)}")
    for kind, convert in ((int, _whole), (float, float)):
        if kind in kinds:
            try:
                return convert(value)
            except (ValueError, OverflowError) as error:
                raise UsageError(f"{key} = {value!r:.60}: write {_wanted(kinds)}") from error
    return Path(str(value)) if Path in kinds else str(value)


def _whole(value: str | int | float) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(value)
    return int(value)


def _wanted(kinds: set[object]) -> str:
    return next((words for kind, words in ((bool, "true or false"), (int, "a whole number"), (float, "a number")) if kind in kinds), "a text")
