"""Makes networks from configs that passed the rules; a library's refusal becomes an error that names the config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from linfusion_cli.errors import WeightsError

# What constructors of diffusers, transformers and torch raise for numbers that don't go together.
REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError)


def maker(kind: Any, config: Mapping[str, Any], source: str) -> Callable[[], Any]:
    """A function that makes a diffusers model of `kind` from its config; it raises WeightsError that names `source`."""
    settings = {key: value for key, value in config.items() if not key.startswith("_")}  # "_" are notes of diffusers
    return guarded(lambda: kind.from_config(settings), kind.__name__, source)


def guarded(make: Callable[[], Any], name: str, source: str) -> Callable[[], Any]:
    """`make`, whose errors become a WeightsError that names `source`."""

    def function() -> Any:
        try:
            return make()
        except (*REFUSALS, StrictDataclassError, ValueError) as error:
            why = next(iter(str(error).splitlines()), "")[:120]
            raise WeightsError(f"{source}: its config makes no {name} ({type(error).__name__}: {why})") from error

    return function
