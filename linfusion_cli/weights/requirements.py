"""What a preset needs on this machine: which parts, from which locations, and which files of a repository they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from linfusion_cli.errors import WeightsError, option
from linfusion_cli.json_files import read_json
from linfusion_cli.weights.adapter_files import OFFICIAL
from linfusion_cli.weights.locate import cache_folder, find
from linfusion_cli.weights.safetensors_header import ENDING, INDEX_ENDING, PICKLES, STEMS, VARIANT, weight_files

Kind = Literal[
    "model", "unet", "linfusion", "vae", "controlnet", "ip-adapter", "ip-encoder", "lora", "textual-inversion"
]
PARTS = ("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "vae")
WEIGHTY = ("text_encoder", "text_encoder_2", "unet", "vae")
ENCODER_CONFIG = "image_encoder/config.json"
WORDS = (".json", "merges.txt", "vocab.txt")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing to have: any of `locations` will do, the first that can be had is taken.

    without: parts of a model whose weights are not read, as others are used in their place; their configs are
    """

    kind: Kind
    locations: tuple[str, ...]
    revision: str
    variant: str
    family: str  # "" = not known yet
    without: tuple[str, ...] = ()

    @property
    def parameter(self) -> str:
        return self.kind.replace("-", "_")

    def here(self) -> Path | None:
        """Where it is on this machine, complete; None if it is not."""
        return next((path for path in self._present() if self._complete(path)), None)

    def found(self) -> Path | None:
        """Where it is on this machine, complete or not; None if it is not."""
        return next(self._present(), None)

    def to_fetch(self) -> bool:
        """Whether it is not on this machine, or not whole in the hub's cache, which has a part."""
        path = self.found()
        return path is None or (cache_folder() in path.parents and self.here() is None)

    def _present(self) -> Iterator[Path]:
        paths = (find(location, self.revision) for location in self.locations)
        return (path for path in paths if path is not None)

    def _complete(self, path: Path) -> bool:
        if path.is_file():
            return True
        if self.kind in ("lora", "textual-inversion"):
            return any(path.glob(f"*{ENDING}"))
        if self.kind == "ip-adapter":
            official = OFFICIAL.get(self.family, "")
            return bool(list(path.glob(f"*{ENDING}"))) or bool(official and (path / official).exists())
        return not missing_parts(path, self.kind, self.variant, self.without)


def missing_parts(folder: Path, kind: Kind, variant: str, without: tuple[str, ...] = ()) -> list[str]:
    """Parts of a folder in diffusers layout that have no config or no weights; of those `without`, no config."""
    if kind != "model":
        own = folder / kind if (folder / kind / "config.json").exists() else folder
        return [] if _has_weights(own, variant) else [kind]
    try:
        index = read_json(folder / "model_index.json")
    except (OSError, ValueError):
        return ["model_index.json"]
    parts = [part for part in PARTS if isinstance(index.get(part), list) and index[part][0]]
    return [
        part
        for part in parts
        if not (
            _has_weights(folder / part, variant)
            if part in WEIGHTY and part not in without
            else any((folder / part).glob("*.json"))
        )
    ]


def _has_weights(folder: Path, variant: str) -> bool:
    try:
        return (folder / "config.json").exists() and bool(weight_files(folder, variant))
    except WeightsError:
        return False


def files_of(requirement: Requirement, inside: str, names: Iterable[str]) -> tuple[str, ...]:
    """The files of a repository that it asks for. `inside` is the folder or file that its location names.

    Raises WeightsError if the repository has none: only pickles, or another layout.
    """
    listed = sorted(names)
    if inside.endswith(ENDING):
        chosen = [inside] if inside in listed else []
        if requirement.kind == "ip-adapter":
            chosen += [name for name in listed if name.endswith(ENCODER_CONFIG)]
    else:
        base = f"{inside}/" if inside else ""
        own = [name.removeprefix(base) for name in listed if name.startswith(base)]
        chosen = [base + name for name in _chosen(requirement, own)]
    if not any(name.endswith(ENDING) for name in chosen):
        pickles = [name for name in listed if name.endswith(PICKLES)]
        why = (
            f"only pickles such as {pickles[0]}, which run any code when they are opened; "
            "download it, then run: linfusion convert FILE"
            if pickles
            else "no such file"
        )
        raise WeightsError(
            f"{requirement.locations[0]}: holds {why}. Name another repository or file with ",
            option(requirement.parameter),
        )
    return tuple(chosen)


def encoder_weights(folder: str, names: Iterable[str]) -> list[str]:
    """The weights of an image encoder in a folder of a repository."""
    return _weights([name for name in names if name.rpartition("/")[0] == folder], "")


def _chosen(requirement: Requirement, names: list[str]) -> list[str]:
    """Of the files of a repository those that a requirement needs."""
    match requirement.kind:
        case "model":
            chosen = [name for name in names if name == "model_index.json"]
            for part in PARTS:
                inside = [name for name in names if name.startswith(f"{part}/") and name.count("/") == 1]
                chosen += [name for name in inside if name.endswith(WORDS) and f"{ENDING}.index." not in name]
                read = part in WEIGHTY and part not in requirement.without
                chosen += _weights(inside, requirement.variant) if read else []
            return chosen
        case "ip-adapter":
            wanted = [OFFICIAL[requirement.family]] if requirement.family in OFFICIAL else list(OFFICIAL.values())
            official = [name for name in names if name in wanted]
            configs = [name for name in names if name.endswith(ENCODER_CONFIG)]
            return [*official, *configs] if official else [*(n for n in names if n.endswith(ENDING)), *configs]
        case "lora" | "textual-inversion":
            return [name for name in names if name.endswith(ENDING) and "/" not in name]
        case "unet" if any(name.startswith("unet/") for name in names):  # a whole model
            own = [name for name in names if name.startswith("unet/") and name.count("/") == 1]
            return [name for name in own if name == "unet/config.json"] + _weights(own, requirement.variant)
        case _:
            own = [name for name in names if "/" not in name]
            return [name for name in own if name == "config.json"] + _weights(own, requirement.variant)


def _weights(names: list[str], variant: str) -> list[str]:
    """The weights of one part: of the variant where there are any, in one file or in several with their index.

    A part that has one other variant alone is taken in that.
    """
    by_name = {name.rpartition("/")[2]: name for name in names}
    for own in (variant, "") if variant else ("",):
        if found := _of_variant(by_name, own):
            return found
    others = {match[1] for name in by_name if (match := VARIANT.fullmatch(name))}
    return _of_variant(by_name, others.pop()) if len(others) == 1 else []


def _of_variant(by_name: dict[str, str], variant: str) -> list[str]:
    dot = f".{variant}" if variant else ""
    for stem in STEMS:
        indexes = (f"{stem}{ENDING}.index{dot}.json", f"{stem}{dot}{INDEX_ENDING}")
        shards = [full for name, full in by_name.items() if name.startswith(f"{stem}{dot}-") and "-of-" in name]
        if shards and (index := next((name for name in indexes if name in by_name), "")):
            return [by_name[index], *(name for name in shards if name.endswith(ENDING))]
        if whole := by_name.get(f"{stem}{dot}{ENDING}"):
            return [whole]
    return []
