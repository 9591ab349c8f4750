"""WeightFile: the weights of one component, found once when the plan is made and checked when they are opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from linfusion_cli.errors import WeightsError
from linfusion_cli.models import PREFIX
from linfusion_cli.weights.locate import find, missing, stamp


@dataclass(frozen=True, slots=True)
class WeightFile:
    """Where the weights of one component are, as the plan found them.

    locations: those that the preset or an option names; the first that is on this machine is taken
    parameter: the option that names them, for messages
    path: the file or folder; None if none of the locations was on this machine
    stamp: of the names, sizes and times of the files there; "" for weights that have no other version under the same
        path, which are those of the package and those in the hub's cache
    """

    locations: tuple[str, ...]
    revision: str
    parameter: str
    path: Path | None
    stamp: str

    @staticmethod
    def resolve(locations: tuple[str, ...], revision: str, parameter: str) -> WeightFile:
        """Looks for the weights; reads none of them. Raises WeightsError for a pickle."""
        for location in locations:
            if (path := find(location, revision)) is not None:
                return WeightFile(locations, revision, parameter, path, stamp(path) if _exchangeable(location) else "")
        return WeightFile(locations, revision, parameter, None, "")

    def open(self) -> Path:
        """The file or folder, which is still the one of the plan.

        Raises WeightsError: with the command that fetches the weights if they are not on this machine, naming the file
        if it is another one now.
        """
        self.refuse_changed()
        if self.path is None:
            raise missing(self.locations, self.revision, self.parameter)
        return self.path

    def refuse_changed(self) -> None:
        """Raises WeightsError, naming the weights, if they were changed, moved or fetched since the plan was made."""
        now = WeightFile.resolve(self.locations, self.revision, self.parameter) if self.path is None else self._now()
        if now != self:
            name = self.path or now.path
            raise WeightsError(f"{name}: these weights changed since the plan was made. Plan again")

    def _now(self) -> WeightFile:
        """The same file or folder with its present stamp."""
        assert self.path is not None
        if not self.path.exists():
            return WeightFile(self.locations, self.revision, self.parameter, None, "")
        return WeightFile(
            self.locations, self.revision, self.parameter, self.path, stamp(self.path) if self.stamp else ""
        )


def _exchangeable(location: str) -> bool:
    """Whether somebody could put other weights under the same path."""
    return not location.startswith(PREFIX) and Path(location).expanduser().exists()
