"""Few-step models and LoRAs, by their names and metadata: a note with the settings that suit them.

Sources: LCM arXiv 2310.04378, Lightning 2402.13929, Hyper-SD 2404.13686, DMD2 2405.14867, Turbo 2311.17042,
TCD 2402.19159, and the settings on their model cards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from linfusion_cli.config.job import Job
from linfusion_cli.config.preset_schema import SamplingSettings
from linfusion_cli.config.schedulers import SCHEDULERS, SIGMA_OPTIONS
from linfusion_cli.config.weighted_lora import WeightedLora
from linfusion_cli.errors import Message, Option, option
from linfusion_cli.planning.job_weights import JobWeights
from linfusion_cli.weights.weight_file import WeightFile

TITLES = ("ss_output_name", "modelspec.title", "modelspec.description", "name", "title")  # of files, in metadata
X0 = re.compile(r"\bx0\b")  # SDXL-Lightning in one step, which predicts the image itself
STEPS = re.compile(r"(\d+) ?steps?\b")
MORE_STEPS = 2  # times the steps that it was distilled for are no mistake
FEWEST = 8  # nor are so many


@dataclass(frozen=True, slots=True)
class FewStep:
    """One kind: how it is called, the words that name it, and the settings that suit it.

    steps:      that it was distilled for, unless its name says so
    schedulers: that suit it, the best first
    guidance:   the scale that suits it, and the highest that does
    trailing:   it needs trailing timesteps, whatever its base model says
    """

    name: str
    words: str
    steps: int
    schedulers: tuple[str, ...]
    guidance: tuple[float, float] = (1.0, 2.0)
    trailing: bool = False

    def unsuitable(self, sampling: SamplingSettings, steps: int) -> Iterator[Option]:
        """The options that would suit it, of those that are set otherwise."""
        if sampling.steps > max(FEWEST, MORE_STEPS * steps):
            yield option("steps", steps)
        if sampling.guidance > self.guidance[1]:
            yield option("guidance", self.guidance[0])
        if sampling.scheduler not in self.schedulers:
            yield option("scheduler", self.schedulers[0])
        follows = sampling.scheduler if sampling.scheduler in self.schedulers else self.schedulers[0]
        if self.trailing and SCHEDULERS[follows].spacing != "never" and not _trailing(sampling):
            yield option("timestep_spacing", "trailing")


LCM = FewStep("a latent consistency model", r"\blcm\b|latent consistency", 4, ("lcm", "tcd"))
TOLD = FewStep("a latent consistency model", "", 4, ("lcm", "tcd"), (8.0, 15.0))  # that is told its guidance scale
HYPER_CFG = FewStep("Hyper-SD with guidance", r"\bhyper\b.*\bcfg\b", 8, ("ddim", "euler"), (5.0, 8.0), trailing=True)
KINDS = (
    FewStep("Lightning", r"\blightning\b", 4, ("euler", "ddim", "dpmpp_2m", "dpmpp_sde", "lcm"), trailing=True),
    HYPER_CFG,
    FewStep("Hyper-SD in one step", r"\bhyper\b.*\b1 ?step", 1, ("tcd", "lcm")),
    FewStep("Hyper-SD", r"\bhyper\b", 4, ("ddim", "tcd", "euler", "lcm"), trailing=True),
    FewStep("DMD2", r"\bdmd2\b", 4, ("lcm", "tcd")),
    FewStep("TCD", r"\btcd\b", 4, ("tcd", "lcm")),
    LCM,
    FewStep("Turbo", r"\bturbo\b", 4, ("euler_ancestral", "euler", "lcm", "dpmpp_sde"), trailing=True),
)


def few_step_note(job: Job, weights: JobWeights, *, told_guidance: bool) -> Message | None:
    """The settings that suit the first few-step LoRA, UNet or model of a job, if others are set.

    told_guidance: the UNet is a latent consistency model by its tensors, whatever its name
    """
    sampling = job.settings.sampling
    for location, file in _named(job, weights):
        for text in _texts(location, file):
            if kind := next((kind for kind in KINDS if re.search(kind.words, text)), None):
                if X0.search(text):
                    return Message(
                        f"{Path(location).name} predicts the image itself (x0), which is taken for noise here: "
                        "take the file for 2, 4 or 8 steps"
                    )
                kind = TOLD if told_guidance else kind
                return _note(Path(location).name, kind, _steps_in(text) or kind.steps, sampling)
    return _note("the UNet", TOLD, TOLD.steps, sampling) if told_guidance else None


def _named(job: Job, weights: JobWeights) -> Iterator[tuple[str, WeightFile]]:
    """What is named, and where it is: LoRAs that act, then the UNet, then the model."""
    model = job.settings.model
    yield from ((lora.location, file) for lora, file in weights.named_loras if _acts(lora))
    if weights.unet is not None:
        yield model.unet, weights.unet
    else:
        yield from ((location, weights.model) for location in model.repositories[:1])


def _acts(lora: WeightedLora) -> bool:
    """In the first stage, whose steps and guidance the note is about."""
    return lora.weight != 0 and lora.stages != "upscale"


def _texts(location: str, file: WeightFile) -> Iterator[str]:
    """The name of a location with its folder or owner, and the titles in its metadata, in plain lower case."""
    yield _words("/".join(Path(location).parts[-2:]))
    if file.path is not None and file.path.is_file():
        metadata = file.header.metadata
        yield from (_words(metadata[title]) for title in TITLES if title in metadata)


def _words(text: str) -> str:
    """Lower case, single spaces for everything but letters and digits."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower())


def _steps_in(text: str) -> int:
    """The steps that a name says: 8 of "hyper sdxl 8steps lora"; 0 if it says none."""
    found = STEPS.search(text)
    return int(found[1]) if found else 0


def _trailing(sampling: SamplingSettings) -> bool:
    return "trailing" in (sampling.timestep_spacing, SIGMA_OPTIONS[sampling.sigma_schedule].get("timestep_spacing"))


def _note(name: str, kind: FewStep, steps: int, sampling: SamplingSettings) -> Message | None:
    options = list(kind.unsuitable(sampling, steps))
    if not options:
        return None
    parts: list[str | Option] = [options[0]]
    for one in options[1:]:
        parts += [" ", one]
    return Message(f"{name} looks like {kind.name}, made for few steps. Settings that suit it: ", *parts)
