"""What a pickle of weights holds, flattened to named tensors and metadata; nothing of it is dropped unsaid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from linfusion_cli.errors import WeightsError

# Keys under which trainers put the weights, the first that is there is taken: averaged weights before the last ones.
WRAPPERS = ("state_dict", "model_state_dict", "params_ema", "params", "model_ema", "model", "module", "ema")
EMBEDDING = "string_to_param"  # of A1111's and the original textual inversion
EMBEDDING_NAME = "emb_params"  # A1111's name for its vectors in a safetensors file
EMBEDDING_NOTES = ("string_to_token", "name", "step", "sd_checkpoint", "sd_checkpoint_name")
MOST_DEPTH = 8
SEVERAL_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Weights:
    """Named tensors and metadata. ignored: entries that are no weights (optimizer states, callbacks, ...)."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    ignored: tuple[str, ...]


def weights_of(loaded: object) -> Weights:
    """The weights in what torch.load gave.

    Nested tables become names with dots ("image_proj" of an IP-Adapter: image_proj.proj.weight). Texts and numbers
    beside the weights become metadata. Raises WeightsError if there are no tensors, or if two have one name.
    """
    table = _table(loaded)
    if table is None:
        raise WeightsError(f"it holds a {type(loaded).__name__}, not named weights")
    if (vectors := _table(table.get(EMBEDDING))) is not None:
        return _embedding(vectors, table)
    key = next((key for key in WRAPPERS if _holds_tensors(table.get(key))), "")
    inner = _table(table[key]) if key else table
    assert inner is not None
    tensors = _flat(inner)
    if not tensors:
        raise WeightsError(f"it holds no tensors, only: {_several(table)}")
    metadata, ignored = _others(table, key) if key else _others({name: inner[name] for name in _plain(inner)}, "")
    return Weights(tensors, metadata, ignored)


def _embedding(vectors: Mapping[Any, Any], table: Mapping[Any, Any]) -> Weights:
    """A textual inversion: its one tensor under A1111's name."""
    found = [value for value in vectors.values() if isinstance(value, Tensor)]
    if len(found) != 1:
        raise WeightsError(f"a textual inversion with {len(found)} words: 1 is expected")
    notes = {key: table[key] for key in ("name", "step", "sd_checkpoint", "sd_checkpoint_name") if key in table}
    metadata, _ = _others(notes, "")
    ignored = tuple(str(key) for key in table if key not in (EMBEDDING, *EMBEDDING_NOTES))
    return Weights({EMBEDDING_NAME: found[0]}, metadata, ignored)


def _table(value: object) -> Mapping[Any, Any] | None:
    """A dict, or the tables of a module (`torch.nn.ParameterDict`) that was read without its class."""
    if isinstance(value, Mapping):
        return value
    state = getattr(value, "state", None)
    if isinstance(state, Mapping):
        return state.get("_parameters") or {key: one for key, one in state.items() if isinstance(one, Tensor)}
    return None


def _holds_tensors(value: object) -> bool:
    table = _table(value)
    return table is not None and bool(_flat(table))


def _flat(table: Mapping[Any, Any]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, tensor in _walk(table, "", MOST_DEPTH):
        if name in found:
            raise WeightsError(f"two of its tensors have the name {name[:120]}")
        found[name] = tensor
    return found


def _walk(table: Mapping[Any, Any], prefix: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    if not depth:
        raise WeightsError(f"its tables are nested more than {MOST_DEPTH} deep")
    for key, value in table.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        elif (inner := _table(value)) is not None:
            yield from _walk(inner, f"{prefix}{key}.", depth - 1)


def _plain(table: Mapping[Any, Any]) -> list[Any]:
    """The entries of a table that hold no tensors at all."""
    return [key for key, value in table.items() if not isinstance(value, Tensor) and not _holds_tensors(value)]


def _others(table: Mapping[Any, Any], weights: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """What lies beside the weights: texts and numbers as metadata, and the names of all else."""
    metadata: dict[str, str] = {}
    ignored: list[str] = []
    for key, value in table.items():
        if key == weights and weights:
            continue
        if isinstance(key, str) and isinstance(value, str | int | float | bool):
            metadata[key] = str(value)
        elif value is not None:
            ignored.append(str(key))
    return metadata, tuple(ignored)


def _several(table: Mapping[Any, Any]) -> str:
    names = [str(key)[:40] for key in table]
    return ", ".join(names[:SEVERAL_SHOWN]) + (" ..." if len(names) > SEVERAL_SHOWN else "") or "nothing"
