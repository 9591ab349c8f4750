"""Where memory runs out under a network on the whole image at once, it goes on in bands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from linfusion_cli.engine.memory.activation_store import ActivationStore

T = TypeVar("T")


@dataclass(slots=True)
class WholeFirst:
    """The whole image at once until memory runs out; then in bands, from the same step on.

    name: of the network, for the note
    """

    store: ActivationStore
    name: str
    fits: bool = True

    def run(self, whole: Callable[[], T], banded: Callable[[], T]) -> T:
        """The result of `whole`, or of `banded` once memory has run out; `banded` raises its own errors."""
        if self.fits:
            given = self.store.oom.attempt(whole, last=False)
            if given is not None:
                return given
            self.fits = False
            self.store.oom.tell(
                f"{self.name} on the whole image at once does not fit into memory although it was planned: "
                "it goes on in bands"
            )
        return banded()
