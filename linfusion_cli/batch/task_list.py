"""Makes tasks of rows: multiplies out lists and {a|b}, fixes the seeds, and gives each task its id and file name."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import types
import typing
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

from linfusion_cli.batch.prompt_files import Row
from linfusion_cli.config.input_images import refuse_piped
from linfusion_cli.config.kind import Kind
from linfusion_cli.config.option_rows import LARGEST_SEED
from linfusion_cli.config.options import all_rows
from linfusion_cli.config.request import Request
from linfusion_cli.errors import LinfusionError, Message, UsageError, nearest, option

MOST_TASKS = 1_000_000
NAME_TEMPLATE = "{slug}-{seed}-{id}"
RANGE = re.compile(r"(\d{1,10})(?:\.\.(\d{1,10}))?")


class _Draft(NamedTuple):
    """A task before all names are known to differ."""

    id: str
    place: str
    prompt: str
    seed: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Task:
    """One image of a batch. id: the job's hash, which no position and no name is part of."""

    id: str
    place: str
    prompt: str
    seed: int
    name: str
    kind: Kind

    def request(self, folder: Path, *, overwrite: bool) -> Request:
        """What is asked for."""
        return dataclasses.replace(
            self.kind.request, prompt=self.prompt, seed=self.seed, output=folder / self.name, overwrite=overwrite
        )


def row_types() -> dict[str, object]:
    """The keys that a row may have, with the types of their values: those of options, but for what is the batch's."""
    return {row.key: row.request_type for row in all_rows() if row.in_batch_rows}


def make_tasks(
    rows: Sequence[Row],
    common: Mapping[str, object],
    template: str,
    numbers: Callable[[Sequence[str]], Mapping[str, int]],
    problems: list[str],
) -> list[Task]:
    """The tasks of the rows, each once, grouped so that models are loaded rarely. What is wrong goes to `problems`.

    common: values for rows that do not say otherwise. numbers: gives each id the number that it keeps, for {index}.
    """
    try:
        maker = _Maker(common, problems)
    except LinfusionError as error:  # in a flag, not in a list
        problems.append(error.message)
        return []
    found = [task for row in rows for task in maker.tasks_of(row)]
    unique = list({task.id: task for task in reversed(found)}.values())[::-1]
    given = numbers([task.id for task in unique]) if "{index" in template else {}
    named = _named(unique, template, given, problems)
    groups = {kind: place for place, kind in enumerate(dict.fromkeys(task.kind for task in named))}
    return sorted(named, key=lambda task: groups[task.kind])


class _Maker:
    def __init__(self, common: Mapping[str, object], problems: list[str]) -> None:
        self._problems = problems
        self._types = {key: _wants(hint) for key, hint in row_types().items()}
        self._aliases = {alias: row.key for row in all_rows() for alias in row.batch_aliases}
        self._not_in_rows = {"index", "name", *(row.key for row in all_rows() if not row.in_batch_rows)}
        self._names: dict[str, str] = {}
        self._common = {key: self._choices(key, value) for key, value in common.items()}
        self._kinds: dict[Request, Kind] = {}
        self._known: dict[tuple[tuple[object, ...], ...], Sequence[Kind]] = {}
        self._seen: dict[tuple[Kind, str], int] = {}
        self._count = 0

    def tasks_of(self, row: Row) -> Iterator[_Draft]:
        """Every combination of the row's settings, prompts and seeds."""
        try:
            lists = {
                **self._common,
                **{key: self._choices(key, value) for key, value in self._canonical(row.values).items()},
            }
            if "prompt" not in lists:
                raise UsageError("there is no prompt")
            self._allow(lists)
            prompts, seeds = lists.pop("prompt"), lists.pop("seed", [None])
            for kind in self._kinds_of(lists):
                for prompt in prompts:
                    yield from self._seeded(
                        row.place, kind, _whole_text(kind.checked_prompt(cast("str", prompt))), seeds
                    )
        except RecursionError:
            self._problems.append(f"{row.place}: its braces are in one another too deep")
        except (
            LinfusionError
        ) as error:  # WeightsError too: a model that is not there is wrong in one row, not in the list
            self._problems.append(Message(f"{row.place}: ", error))

    def _canonical(self, values: Mapping[str, object]) -> dict[str, object]:
        """The values under the names of Request."""
        found: dict[str, object] = {}
        for given, value in values.items():
            key = self._names.get(given) or self._name(given)
            if key in found:
                raise UsageError(f'"{given}" is given twice')
            found[key] = value
        if "width" in found or "height" in found:
            if "size" in found or not {"width", "height"} <= found.keys():
                raise UsageError("give width and height, or size")
            found["size"] = f"{found.pop('width')}x{found.pop('height')}"
        return found

    def _name(self, given: str) -> str:
        key = given.strip().lower().replace("-", "_")
        key = self._aliases.get(key, key)
        if key in self._not_in_rows:
            raise UsageError(
                f'unknown key "{given}": a row does not say where its image goes or how it is worked on. ',
                option("name"),
                " and ",
                option("output"),
                " of the batch do",
            )
        if key not in self._types and key not in ("width", "height"):
            aliases = [alias for alias, name in self._aliases.items() if name in self._types]
            raise UsageError(f'unknown key "{given}". {nearest(key, [*self._types, *aliases])}')
        self._names[given] = key
        return key

    def _allow(self, lists: Mapping[str, Sequence[object]]) -> None:
        count = math.prod(map(len, lists.values()))
        self._count += count
        if self._count > MOST_TASKS:
            raise UsageError(f"with its {count:,} combinations the list has more than {MOST_TASKS:,} images")

    def _choices(self, key: str, value: object) -> list[object]:
        wanted = self._types[key]
        if key == "seed" and isinstance(value, str):
            return list(seeds_of(value))
        if isinstance(value, list) and (not wanted.items or any(isinstance(item, list) for item in value)):
            if not value:
                raise UsageError(f"{key} = []: an empty list makes no image")
            return [choice for item in value for choice in self._choices(key, item)]
        if key == "prompt":
            return list(itertools.islice(chosen(_converted(key, value, wanted)), MOST_TASKS + 1))
        return [_converted(key, value, wanted)]

    def _seeded(self, place: str, kind: Kind, prompt: str, seeds: Sequence[object]) -> Iterator[_Draft]:
        """One draft for each seed.

        Without a seed the prompt's words give one, not its place in the list: the same list gives the same images, and
        a line that stands there twice gives two.
        """
        for given in seeds:
            if given is None:
                repeat = self._seen.get((kind, prompt), 0)
                self._seen[kind, prompt] = repeat + 1
            seed = kind.seed_for(prompt, repeat) if given is None else cast("int", given)
            yield _Draft(kind.id_of(prompt, seed), place, prompt, seed, kind)

    def _kinds_of(self, lists: Mapping[str, Sequence[object]]) -> Sequence[Kind]:
        """A Kind for each combination; long lists have few of them."""
        key = tuple((name, *choices) for name, choices in lists.items())
        if key not in self._known:
            combinations = [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
            requests = [Request(prompt="", **values) for values in combinations]  # type: ignore[arg-type]
            self._known[key] = [self._kind(request) for request in requests]
        return self._known[key]

    def _kind(self, request: Request) -> Kind:
        if request not in self._kinds:
            for row in all_rows():
                if row.kind is Path and row.is_location and (given := getattr(request, row.key)):
                    refuse_piped(given if row.repeatable else (given,), row.key)
            self._kinds[request] = Kind(request)
        return self._kinds[request]


def _named(tasks: Sequence[_Draft], template: str, numbers: Mapping[str, int], problems: list[str]) -> list[Task]:
    owners: dict[str, _Draft] = {}
    named: list[Task] = []
    for task in tasks:
        try:
            name = task.kind.name_of(template, task.prompt, task.seed, numbers.get(task.id, 0), task.id, option("name"))
        except UsageError as error:
            problems.append(Message(f"{task.place}: ", error))
            if len(problems) > 100:  # a bad template is bad for every row
                break
            continue
        # Some file systems take "É.png", "é.png" and "é.png" (two characters) for the same name.
        owner = owners.setdefault(unicodedata.normalize("NFC", name).casefold(), task)
        if owner is not task:
            text = f'{task.place}: "{name}" is the name of {owner.place} too. Put {{id}} or {{seed}} into '
            problems.append(Message(text, option("name")))
        named.append(Task(task.id, task.place, task.prompt, task.seed, name, task.kind))
    return named


def chosen(text: str) -> Iterator[str]:
    """Every text that {a|b} stands for, the first choices first, nested ones too. Braces without | are text."""
    bounds = _first_choice(text) if "|" in text else None
    if bounds is None:
        yield text
        return
    for start, end in itertools.pairwise(bounds):
        for choice in chosen(text[start + 1 : end]):
            for rest in chosen(text[bounds[-1] + 1 :]):
                yield text[: bounds[0]] + choice + rest


def _first_choice(text: str) -> list[int] | None:
    """Where the first {a|b} that is in no other begins, its bars are, and it ends; None if there is none."""
    opened: list[list[int]] = []
    first: list[int] | None = None
    for place, letter in enumerate(text):
        if letter == "{":
            opened.append([place])
        elif letter == "|" and opened:
            opened[-1].append(place)
        elif letter == "}" and opened:
            bounds = [*opened.pop(), place]
            if len(bounds) > 2 and (first is None or bounds[0] < first[0]):
                first = bounds
            if first and not opened:
                break
    return first


def seeds_of(text: str) -> Iterator[int]:
    """The seeds of "7", "1..8" or "1,5,20..29". Raises UsageError for anything else."""
    for part in text.split(","):
        span = RANGE.fullmatch(part.strip())
        if not span:
            raise UsageError(
                f'seeds "{text}": write numbers and ranges, like 7 or 1..8 or 1,5,20..29, from 0 to {LARGEST_SEED}'
            )
        first, last = int(span[1]), int(span[2] or span[1])
        if last < first:
            raise UsageError(f'seeds "{text}": write them upwards: {last}..{first}')
        if last > LARGEST_SEED or last - first >= MOST_TASKS:
            allowed = f"a seed is a whole number from 0 to {LARGEST_SEED}, and a range has {MOST_TASKS:,} at most"
            raise UsageError(f'seeds "{text}": {allowed}')
        yield from range(first, last + 1)


def _whole_text(prompt: str) -> str:
    if "\0" in prompt:
        raise UsageError("the prompt holds a NUL character")
    return prompt


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a key of Request takes: values of these kinds, or lists whose items are such values."""

    kinds: frozenset[object]
    items: _Wanted | None  # None: no list
    words: str
    any_text: bool  # as it is written


def _wants(hint: object) -> _Wanted:
    kinds = frozenset(typing.get_args(hint)) if isinstance(hint, types.UnionType) else frozenset({hint})
    words = next(
        (
            words
            for kind, words in ((bool, "true or false"), (int, "a whole number"), (float, "a number"))
            if kind in kinds
        ),
        "a text",
    )
    items = _wants(typing.get_args(hint)[0]) if typing.get_origin(hint) is tuple else None
    return _Wanted(kinds, items, words, any_text=kinds <= {str, types.NoneType})


def _converted(key: str, value: object, wanted: _Wanted) -> typing.Any:
    """A value of a row as Request wants it. Raises UsageError for one that can't be meant."""
    text, kinds = isinstance(value, str), wanted.kinds
    if text and wanted.any_text:
        return value
    if wanted.items:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_converted(key, item, wanted.items) for item in items)
    if bool in kinds and (isinstance(value, bool) or (text and str(value).lower() in ("true", "false"))):
        return value if isinstance(value, bool) else str(value).lower() == "true"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{key} = {_written(value)}: write {wanted.words}")
    for kind, convert in ((int, _whole), (float, float)):
        if kind in kinds:
            try:
                return convert(value)
            except (ValueError, OverflowError) as error:
                raise UsageError(f"{key} = {_written(value)}: write {wanted.words}") from error
    return Path(str(value)) if Path in kinds else str(value)


def _written(value: object) -> str:
    """A value as a list has it (true, null, "text"), cut to a line."""
    return f"{json.dumps(value, default=str, ensure_ascii=False):.60}"


def _whole(value: str | int | float) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(value)
    return int(value)
