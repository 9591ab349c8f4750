"""Makes tasks from rows: expands lists and {a|b}, sets the seeds, and gives each task its id and file name."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from linfusion_cli.batch.prompt_choices import chosen, count_texts, has_weights
from linfusion_cli.batch.prompt_files import Row
from linfusion_cli.batch.row_values import (
    COUNTS,
    MOST_TASKS,
    RANDOM_SEEDS,
    converted,
    counted_images,
    row_types,
    seeds_of,
    wants,
)
from linfusion_cli.batch.wildcards import Wildcards
from linfusion_cli.config.input_images import refuse_piped
from linfusion_cli.config.kind import Kind
from linfusion_cli.config.midjourney import midjourney_advice
from linfusion_cli.config.model_names import folders_of
from linfusion_cli.config.one_look import one_look
from linfusion_cli.config.options import all_rows
from linfusion_cli.config.prompt_loras import PromptLoras, read_tags, split_tags
from linfusion_cli.config.request import Request
from linfusion_cli.config.size_options import BOTH_SIDES, SIZE_KEYS, size_of
from linfusion_cli.errors import LinfusionError, Message, UsageError, nearest_name, option
from linfusion_cli.geometry import Size

NAME_TEMPLATE = "{slug}-{seed}-{id}"
NUMBERED = "{index"  # in a template: the file is named by the number of its image


class _Draft(NamedTuple):
    """A task before all names are known to differ."""

    id: str
    place: str
    prompt: str
    seed: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Task:
    """One image of a batch.

    id:    the hash of the job; it does not depend on the place in the list or on the file name
    place: where the prompt stands in a list, such as prompts.txt:3
    name:  of the image's file, in the folder of the batch
    """

    id: str
    place: str
    prompt: str
    seed: int
    name: str
    kind: Kind

    def request(self, folder: Path, *, overwrite: bool) -> Request:
        """The request for the image, in a folder."""
        return dataclasses.replace(
            self.kind.request, prompt=self.prompt, seed=self.seed, output=folder / self.name, overwrite=overwrite
        )


def make_tasks(
    rows: Sequence[Row],
    common: Mapping[str, object],
    template: str,
    numbers: Callable[[Sequence[str]], Mapping[str, int]],
    problems: list[str],
    notes: list[str] | None = None,
    wildcards: Wildcards | None = None,
) -> list[Task]:
    """The tasks of the rows, each once, grouped so that models are loaded rarely.

    Errors are added to `problems`, ignored values to `notes`; errors in rows raise nothing.

    common: values for the keys that a row does not give
    template: of the file names, such as {slug}-{seed}-{id}
    numbers: returns the permanent number of each id, for {index}
    wildcards: replaces __name__ in prompts; None: it stays
    """
    try:
        maker = _Maker(common, problems, notes if notes is not None else [], wildcards)
    except LinfusionError as error:  # in a flag, not in a list
        problems.append(error.message)
        return []
    with one_look():
        found = [task for row in rows for task in maker.tasks_of(row)]
    unique = list({task.id: task for task in reversed(found)}.values())[::-1]
    given = numbers([task.id for task in unique]) if NUMBERED in template else {}
    named = _named(unique, template, given, problems)
    groups = {kind: place for place, kind in enumerate(dict.fromkeys(task.kind for task in named))}
    return sorted(named, key=lambda task: groups[task.kind])


class _Maker:
    def __init__(
        self, common: Mapping[str, object], problems: list[str], notes: list[str], wildcards: Wildcards | None
    ) -> None:
        self._problems, self._notes, self._wildcards = problems, notes, wildcards
        self._noted: set[tuple[str, str]] = set()
        self._types = {key: wants(hint) for key, hint in row_types().items()}
        self._aliases = {alias: row.key for row in all_rows() for alias in row.batch_names[1:]}
        self._not_in_rows = {"index", "name", *(row.key for row in all_rows() if not row.in_batch_rows)}
        self._names: dict[str, str] = {}
        self._kinds: dict[Request, Kind] = {}
        self._tags: dict[tuple[str, ...], PromptLoras] = {}
        self._common: dict[str, list[object]] = {}
        for key, value in self._with_size("the flags", dict(common)).items():
            self._common[key] = self._choices(key, value)
        self._known: dict[tuple[tuple[object, ...], ...], Sequence[Kind]] = {}
        self._seen: dict[tuple[Kind, str], int] = {}
        self._count = 0

    def tasks_of(self, row: Row) -> Iterator[_Draft]:
        """Every combination of the row's settings, prompts and seeds."""
        try:
            values = self._canonical(row)
            lists = {**self._common, **{key: self._choices(key, value) for key, value in values.items()}}
            if "prompt" not in lists:
                raise UsageError("there is no prompt")
            if has_weights(str(values.get("prompt"))):
                self._note(row.place, "{0.5::...}: every choice is made, so weights above 0 change nothing")
            seeds = _repeated(lists.pop("seed", [None]), _count_of(lists))
            self._allow({**lists, "seed": seeds})
            prompts = lists.pop("prompt")
            for kind in self._kinds_of(lists):
                for prompt in prompts:
                    yield from self._seeded(row.place, kind, cast("str", prompt), seeds)
        except RecursionError:
            self._problems.append(f"{row.place}: its braces are in one another too deep")
        except (
            LinfusionError
        ) as error:  # WeightsError too: a model that is not there is wrong in one row, not in the list
            self._problems.append(Message(f"{row.place}: ", error))

    def _canonical(self, row: Row) -> dict[str, object]:
        """The values under the names of Request. null is a value that is not given."""
        found: dict[str, object] = {}
        for given, value in row.values.items():
            if value is None:
                continue
            try:
                key = self._names.get(given) or self._name(given)
            except UsageError as error:
                if not row.header:
                    raise
                self._note_column(row.header, given, error)
                continue
            if key in found:
                raise UsageError(f'"{given}" is given twice')
            found[key] = value
        return self._with_size(row.place, found)

    def _with_size(self, place: str, found: dict[str, object]) -> dict[str, object]:
        """The values with a size in the place of a width, a shape and the like."""
        if any(key in found for key in SIZE_KEYS):
            found["size"] = self._size(place, found)
        return found

    def _note_column(self, header: str, column: str, error: UsageError) -> None:
        """Notes a column that is no option, once for a file: tables hold other things too."""
        close = nearest_name(column, [*self._types, *COUNTS]) or nearest_name(column, self._own_aliases())
        advice = f'. Did you mean "{close}"?' if close and "row does not say" not in error.message else ""
        self._note(header, f'the column "{column:.60}" is not an option and is not used{advice}')

    def _note(self, place: str, text: str) -> None:
        if (place, text) not in self._noted:
            self._noted.add((place, text))
            self._notes.append(Message(f"{place}: ", text))

    def _size(self, place: str, found: dict[str, object]) -> str:
        """The size of values that give a width, a height, a shape or the like."""
        if any(isinstance(found[key], list) for key in SIZE_KEYS if key in found):
            raise UsageError("width, height, aspect, megapixels and long_side take one value: give a list of sizes")
        said = {key: converted(key, found.pop(key), self._types[key]) for key in SIZE_KEYS if key in found}
        whole = said if "size" not in found else {"size": found["size"], **said}
        size = str(size_of(whole, lambda: self._usual_size(found)))
        if len(said) == 1 and (side := next(iter(said))) in BOTH_SIDES:
            other = BOTH_SIDES[1 - BOTH_SIDES.index(side)]
            self._note(place, f"{size}: the {other} is the usual one, as only the other side is given")
        return size

    def _usual_size(self, found: Mapping[str, object]) -> Size:
        """The size that the row would have without these: that of the batch, or of the preset."""
        lists = {
            **self._common,
            **{key: self._choices(key, found[key]) for key in ("preset", "model", "models") if key in found},
        }
        values = {key: lists[key] for key in ("preset", "model", "models", "size") if key in lists}
        if any(len(choices) > 1 for choices in values.values()):
            raise UsageError("there are several sizes, presets or models to complete it from: give the whole size")
        first: dict[str, Any] = {key: choices[0] for key, choices in values.items()}
        return self._kind(Request(prompt="", **first)).job.size

    def _name(self, given: str) -> str:
        """The key of the table that a row's key means. Raises UsageError for one that no row may have."""
        key = re.sub(r"[\s-]+", "_", given.strip().lower())
        key = COUNTS.get(key) or self._aliases.get(key, key)
        if key in self._not_in_rows:
            raise UsageError(
                f'unknown key "{given}": a row says neither where its image goes nor how the work is done. ',
                option("name"),
                " and ",
                option("output"),
                " of the batch do",
            )
        if key not in self._types and key not in COUNTS:
            if (instead := midjourney_advice(key)) is not None:
                raise UsageError(f'unknown key "{given}": it ', instead)
            close = nearest_name(key, [*self._types, *COUNTS]) or nearest_name(key, self._own_aliases())
            advice = f'Did you mean "{close}"?' if close else "The keys are the options of generate, such as steps"
            raise UsageError(f'unknown key "{given}". {advice}')
        self._names[given] = key
        return key

    def _own_aliases(self) -> list[str]:
        """Other names of the keys that a row may have."""
        return [alias for alias, name in self._aliases.items() if name in self._types]

    def _allow(self, lists: Mapping[str, Sequence[object]]) -> None:
        count = math.prod(map(len, lists.values()))
        self._count += count
        if self._count > MOST_TASKS:
            raise UsageError(f"with its {count:,} combinations the list has more than {MOST_TASKS:,} images")

    def _choices(self, key: str, value: object) -> list[object]:
        """The values that a key of a row gives: of a list, of seeds `1..4`, of a prompt with choices in braces."""
        if key in COUNTS:
            return [counted_images(key, value)]
        wanted = self._types[key]
        if key == "seed" and str(value).strip().lower() in RANDOM_SEEDS:
            return [None]
        if key == "seed" and isinstance(value, str):
            return list(seeds_of(value, of_option=False))
        if isinstance(value, list) and (not wanted.items or any(isinstance(item, list) for item in value)):
            if not value:
                raise UsageError(f"{key} = []: an empty list makes no image")
            return [choice for item in value for choice in self._choices(key, item)]
        if key == "prompt":
            return _texts_of(converted(key, value, wanted))
        return [converted(key, value, wanted)]

    def _seeded(self, place: str, kind: Kind, prompt: str, seeds: Sequence[object]) -> Iterator[_Draft]:
        """One draft for each seed.

        Without a seed the prompt's words give one, not its place in the list: the same list gives the same images, and
        a line that stands there twice gives two.
        """
        fills = self._wildcards is not None and "__" in prompt
        if not fills:
            kind, prompt = self._with_tags(place, kind, prompt)
        prompt = _whole_text(kind.checked_prompt(prompt))
        for given in seeds:
            if given is None:
                repeat = self._seen.get((kind, prompt), 0)
                self._seen[kind, prompt] = repeat + 1
            seed = kind.seed_for(prompt, repeat) if given is None else cast("int", given)
            text, drawn = prompt, kind
            if fills and self._wildcards is not None:
                drawn, text = self._with_tags(place, kind, self._wildcards.filled(prompt, seed))
                text = _whole_text(drawn.checked_prompt(text))
            yield _Draft(drawn.id_of(text, seed), place, text, seed, drawn)

    def _with_tags(self, place: str, kind: Kind, prompt: str) -> tuple[Kind, str]:
        """The prompt without the tags of LoRAs, and the kind with these LoRAs."""
        folders = folders_of(kind.request)
        words, tags = split_tags(prompt, folders)
        if not tags:
            return kind, prompt
        known = (*map(str, folders.roots), *tags)
        if known not in self._tags:
            self._tags[known] = read_tags(tags, folders)
        for note in self._tags[known].notes:
            self._note(place, note)
        return self._kind(kind.with_loras(self._tags[known].loras)), words

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
    """The tasks with their files' names. Two of the same name are problems, as is a wrong template."""
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
            text = f'{task.place}: "{name}" is the name of {owner.place} too. Put {_missing_field(template)} into '
            problems.append(Message(text, option("name")))
        named.append(Task(task.id, task.place, task.prompt, task.seed, name, task.kind))
    return named


def _missing_field(template: str) -> str:
    """What tells two tasks of one name apart: an id's eight digits alone repeat among some ten thousand prompts."""
    return next((field for field in ("{id}", "{seed}") if field not in template), "{index}")


def _count_of(lists: dict[str, list[object]]) -> int:
    """Takes the counts out of a row's values: their product."""
    return math.prod(cast("int", lists.pop(key, [1])[0]) for key in dict.fromkeys(COUNTS.values()))


def _repeated(seeds: Sequence[object], count: int) -> list[object]:
    """Each seed and the ones after it, `count` in all; for one that is not given, so many that are not given."""
    return [seed if seed is None else cast("int", seed) + i for seed in seeds for i in range(count)]


def _texts_of(prompt: str) -> list[object]:
    """Every text that a prompt with choices stands for. Raises UsageError, before any is made, for too many."""
    if count_texts(prompt) > MOST_TASKS:
        raise UsageError(f"its choices make more than {MOST_TASKS:,} images, the most that a list has")
    return list(chosen(prompt))


def _whole_text(prompt: str) -> str:
    if "\0" in prompt:
        raise UsageError("the prompt holds a NUL character")
    return prompt


def shard_of(tasks: Sequence[Task], index: int, count: int) -> list[Task]:
    """The tasks of machine `index` (1 to `count`) of `count` machines.

    The id alone decides, so that editing the list moves no task to another machine.
    """
    return [task for task in tasks if int(task.id[:15], 16) % count == index % count]
