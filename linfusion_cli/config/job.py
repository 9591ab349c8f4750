"""One image to make, with nothing left to a default: what `resolve` makes of a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from linfusion_cli.config.extras import Start
from linfusion_cli.config.given_options import Override
from linfusion_cli.config.preset_schema import Preset
from linfusion_cli.config.presets import Source
from linfusion_cli.config.rank_options import RankOptions
from linfusion_cli.config.request_checks import NO_FILE
from linfusion_cli.file_formats import FileSettings
from linfusion_cli.geometry import Size
from linfusion_cli.images.input_image import InputImage


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One image to make. Nothing is left to a default; None turns off: a start, a stages folder, a memory log."""

    prompt: str
    negative_prompt: str
    seed: int  # 0 to LARGEST_SEED
    seed_drawn: bool  # nobody chose it
    size: Size  # in pixels
    preset: str
    settings: Preset
    device: str  # "auto", "cpu", "cuda", "cuda:N" or "mps"
    dtype: str  # "auto" or one of choices.DTYPES
    kernels: str  # "auto" or one of choices.KERNELS
    output: Path
    file: FileSettings  # how the output is written
    overwrite: bool
    stages_folder: Path | None  # keeps the image of each stage
    memory_log: Path | None  # JSON lines, one per phase
    preview: Path | None  # a JPEG file, None for none; "-" sends previews as events alone
    preview_every: int  # steps; 0: as often as a hundredth of the time allows
    max_memory_bytes: int  # 0: what the machine has
    scratch_folder: Path  # for what does not fit into memory
    checkpoint_seconds: float  # of work that an interrupted image may lose; 0: what one step does
    restart: bool  # do not go on with what an interrupted run left
    start: Start | None  # None: stage 0 starts from noise
    control_images: tuple[InputImage, ...]  # one per settings.extras.controlnets
    ip_images: tuple[InputImage, ...]
    weights: Mapping[str, str] = field(hash=False)  # location -> fingerprint of the weights there, where there are any
    sources: Mapping[str, Source] = field(hash=False)  # "sampling.steps" -> "defaults.toml", "preset NAME", an option
    overrides: Mapping[str, Override] = field(hash=False)  # as given_options.overrides() makes them for the record
    rank_options: RankOptions = field(default_factory=RankOptions)  # the processes that make it together
    ending_added: bool = False  # the name that was given has none, and no format was chosen
    prompt_notes: tuple[str, ...] = ()  # how parts of the prompt that are no words were read

    @property
    def stores_prompt(self) -> bool:
        """Whether files may hold the words of the prompt and of the negative prompt."""
        return self.settings.output.store_prompt == "yes"

    @property
    def preview_file(self) -> Path | None:
        """Where previews are written; None if there are none, or if events alone hold them."""
        return None if self.preview == NO_FILE else self.preview

    @property
    def images(self) -> tuple[InputImage, ...]:
        """Every image that the user brings."""
        return (*((self.start.image,) if self.start else ()), *self.control_images, *self.ip_images)
