"""WeightFile: the weights of one component, found once when the plan is made and checked when they are opened."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.adapter_files import (
    check_encoder,
    encoder_folder,
    encoder_folders,
    encoder_inside,
    refuse_face_id,
)
from linfusion_cli.weights.folder_advice import refuse_no_model
from linfusion_cli.weights.locate import find, missing, stamp
from linfusion_cli.weights.model_family import family_of, text_dim
from linfusion_cli.weights.quantised import refuse_quantised
from linfusion_cli.weights.safetensors_header import (
    Header,
    TensorInfo,
    read_header,
    refuse_broken_index,
    weight_files,
)
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
        for header in headers:
            refuse_quantised(header)
        file = WeightFile(locations, revision, parameter, path, headers, "", stamp(path, headers))
        unet = file.unet_tensors if parameter == "model" else {}
        return replace(file, family=family_of(unet, path)) if unet else file

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
    def unet_tensors(self) -> dict[str, TensorInfo]:
        """Those of the UNet in a model's folder, of a UNet's own folder, or of a single file, which holds all parts."""
        if self.path is None or self.path.is_file():
            return self.tensors
        inside = (header for folder in (self.path / "unet", self.path) for header in self.headers_of(folder))
        return {name: info for header in inside for name, info in header.tensors.items()}

    def headers_of(self, folder: Path) -> tuple[Header, ...]:
        """The headers of the files in a folder; none if the component has none there."""
        return tuple(header for header in self.headers if header.path.parent == folder)

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
        refuse_broken_index(folder)
        weight_files(folder)  # says what is there instead
        raise changed(folder)
    return found


def changed(path: Path) -> WeightsError:
    """What to say of weights that are not those of the plan."""
    return WeightsError(f"{path}: these weights changed since the plan was made. Plan again")


def family_of_model(location: str | Path) -> str:
    """The family of a model on this machine: a folder in diffusers layout, or a single file.

    Raises WeightsError for damaged files, and as known_family() does.
    """
    found = WeightFile.resolve((str(location),), "", "model", variant="fp16")
    return known_family(found if found.family else WeightFile.resolve((str(location),), "", "model"))


def known_family(model: WeightFile) -> str:
    """The family of a model that was found. Raises WeightsError, with what is there instead, if it has no UNet."""
    if not model.family:
        path = model.open()
        if path.is_file():
            raise WeightsError(f"{path}: it holds no tensors. Take another file of the same model")
        refuse_no_model(path)
        refuse_broken_index(path / "unet")
        weight_files(path / "unet")  # says what is there instead
    return model.family


def image_encoder_of(adapter: WeightFile, named: str) -> WeightFile | None:
    """The image encoder of an IP-Adapter: the folder or file that is named, else that of its width in its repository.

    None where none is named, and the adapter or its encoder is not on this machine; one that is named and not here has
    no path. Both are told with all other weights that are missing. Raises WeightsError for one of another width than
    the adapter reads.
    """
    if adapter.path is not None:
        refuse_face_id(adapter.header)  # before the image encoder, which it has not
    if not named:
        if adapter.path is None or not encoder_folders(adapter.header.path, adapter.path):
            return None
        folder = encoder_folder(adapter.header, adapter.path)
        return WeightFile.resolve((str(folder),), "", "ip_encoder")
    encoder = WeightFile.resolve((named,), "", "ip_encoder")
    if adapter.path is None or encoder.path is None:
        return encoder
    path = encoder_inside(encoder.path)
    if path != encoder.path:
        encoder = WeightFile.resolve((str(path),), "", "ip_encoder")
    check_encoder(adapter.header, path, encoder.headers)
    return encoder
