"""WeightFile: the weights of one component, found once when the plan is made and checked when they are opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.locate import find, missing, stamp
from linfusion_cli.weights.model_family import family_of, text_dim
from linfusion_cli.weights.safetensors_header import Header, TensorInfo, read_header, weight_files
from linfusion_cli.weights.used_files import used_files


@dataclass(frozen=True, slots=True)
class WeightFile:
    """Where the weights of one component are, as the plan found them, and what their headers say.

    locations: those that the preset or an option names; the first that is on this machine is taken
    parameter: the option that names them, for messages
    path: the file or folder; None if none of the locations was on this machine
    headers: of the files that are read, each read once; none of a part that is missing, which loading reports
    family: of a model by its tensors: "sd15", "sd21" or "sdxl"; "" for everything else, and without its UNet
    fingerprint: of the names, sizes and times of the files there, and of the headers
    """

    locations: tuple[str, ...]
    revision: str
    parameter: str
    path: Path | None = None
    headers: tuple[Header, ...] = ()
    family: str = ""
    fingerprint: str = ""

    @staticmethod
    def resolve(
        locations: tuple[str, ...], revision: str, parameter: str, family: str = "", variant: str = ""
    ) -> WeightFile:
        """Looks for the weights and reads their headers.

        family: which adapter of the official IP-Adapter repository is taken; variant: of the files ("fp16"), where
        they have it. Raises WeightsError for a pickle, and for damaged files.
        """
        path = next((found for location in locations if (found := find(location, revision)) is not None), None)
        if path is None:
            return WeightFile(locations, revision, parameter)
        headers = tuple(read_header(file) for file in used_files(path, parameter, family, variant))
        own = _family(path, headers) if parameter == "model" else ""
        return WeightFile(locations, revision, parameter, path, headers, own, stamp(path, headers))

    @property
    def header(self) -> Header:
        """That of weights in one file. Raises WeightsError, with the command that fetches them, if there is none."""
        if not self.headers:
            raise missing(self.locations, self.revision, self.parameter)
        return self.headers[0]

    @property
    def tensors(self) -> dict[str, TensorInfo]:
        """Those of all headers, by name."""
        return {name: info for header in self.headers for name, info in header.tensors.items()}

    @property
    def text_dim(self) -> int:
        """The width of the text that a model reads; 0 if its UNet has no weights on this machine."""
        return max((text_dim(header.tensors) for header in self.headers), default=0)

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
        if self.path is None:
            found = (find(location, self.revision) for location in self.locations)
            name = next((path for path in found if path is not None), None)
        else:
            same = self.path.exists() and stamp(self.path, self.headers) == self.fingerprint
            name = None if same else self.path
        if name is not None:
            raise changed(name)


def headers_in(headers: tuple[Header, ...], folder: Path) -> tuple[Header, ...]:
    """The headers of the files in a folder. Raises WeightsError if there is none."""
    found = tuple(header for header in headers if header.path.parent == folder)
    if not found:
        weight_files(folder)  # says what is there instead
        raise changed(folder)
    return found


def changed(path: Path) -> WeightsError:
    """What to say of weights that are not those of the plan."""
    return WeightsError(f"{path}: these weights changed since the plan was made. Plan again")


def _family(path: Path, headers: tuple[Header, ...]) -> str:
    unet = {
        name: info
        for header in headers
        if path.is_file() or header.path.parent == path / "unet"
        for name, info in header.tensors.items()
    }
    return family_of(unet, path) if unet else ""
