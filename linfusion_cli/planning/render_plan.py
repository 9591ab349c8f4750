"""RenderPlan: everything that the engine is told, complete before any weight is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from linfusion_cli.config.extras import Start
from linfusion_cli.config.prompt_weighting import Fragment as Fragment
from linfusion_cli.geometry import Size
from linfusion_cli.images.input_image import InputImage
from linfusion_cli.planning.cost_estimate import Phase
from linfusion_cli.planning.memory_budget import StoreBudget
from linfusion_cli.planning.scheduler_choice import SchedulerChoice
from linfusion_cli.planning.upscale_schedule import Stage
from linfusion_cli.system.device import Machine
from linfusion_cli.system.process_setup import FEW_PREPARED, MANY_PREPARED
from linfusion_cli.weights.families import LatentToRgb
from linfusion_cli.weights.weight_file import WeightFile


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditioningInputs:
    """What the text encoders and the image encoder read.

    prompt, negative_prompt: the words without the syntax of prompt weighting, where that is on
    fragments, negative_fragments: the same words, each with its weight; None where prompt weighting is off
    clip_skip: how many of the last layers of the text encoder are left out, 0 to 11
    images: those of the IP-Adapter
    """

    prompt: str
    negative_prompt: str
    fragments: tuple[Fragment, ...] | None
    negative_fragments: tuple[Fragment, ...] | None
    clip_skip: int
    images: tuple[InputImage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerSettings:
    """How noise becomes an image.

    guidance_scale: from 1, which means no guidance; guidance_interval: the part of the timesteps, 0 to 1, where it acts
    guidance_low, guidance_high: in later stages, the scales of coarse shapes and of fine detail
    eta: 0 to 1, the part of its noise that a step draws anew; below 0 as much as the scheduler does by itself
    """

    scheduler: SchedulerChoice
    steps: int
    guidance_scale: float
    guidance_interval: tuple[float, float]
    guidance_low: float
    guidance_high: float
    eta: float = -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleRecipe:
    """How a later stage mixes its branches (DemoFusion, arXiv 2311.16973); f below is the cosine factor of a timestep.

    skip_exponent, dilated_exponent: weight of the skip residual f^a1 and of the dilated branch f^a2
    lowpass_exponent, lowpass_sigma: the low-pass before the dilated branch has sigma * (0.99 f^a3 + 0.01) latents
    dilated_cutoff: below this weight the dilated branch is not run (0 = always run)
    lowpass_padding: "reflect" or "zeros" (the official code pads with zeros)
    match_statistics: end with the mean and the deviation per channel of stage 0
    frequency_mixing: start from the low band of the enlarged latents and the high band of the encoded image
    structure_guidance: 0 to 1, how much the low band of x0 is pulled to that of the start (arXiv 2510.25818)
    structure_scale: side of that low band's latents over the full ones
    edge_noise:     0 to 2, weight of extra noise at edges before a stage (arXiv 2503.18446)
    """

    skip_exponent: float = 3.0
    dilated_exponent: float = 1.0
    lowpass_exponent: float = 1.0
    lowpass_sigma: float = 1.0
    dilated_cutoff: float = 0.02
    lowpass_padding: str = "reflect"
    match_statistics: bool = True
    frequency_mixing: bool = False
    structure_guidance: float = 0.0
    structure_scale: float = 0.25
    edge_noise: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StageJoin:
    """How an image goes from one stage to the next.

    between: "pixel" decodes, enlarges and encodes it, "latent" enlarges its latents
    vae_window_latents: up to this area the attention of the autoencoder sees the whole image at once
    """

    between: Literal["pixel", "latent"]
    resize: str
    vae_window_latents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlInput:
    """The image of one ControlNet.

    end: the part of the steps, 0 to 1, after which it acts no more
    mode: the number of a ControlNet-union's mode; None for other networks
    """

    image: InputImage
    scale: float
    end: float
    preprocess: str
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class LoraInput:
    """A LoRA, and how strongly it acts (-8 to 8); stages: "base", "upscale", or "" for all of them."""

    file: WeightFile
    scale: float
    text_scale: float
    stages: str = ""


@dataclass(frozen=True, slots=True)
class InversionInput:
    """A textual inversion, and the word that stands for it in a prompt."""

    file: WeightFile
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentInputs:
    """Which weights are loaded, and how; None is none.

    unet:        in place of the model's own
    linfusion:   the folder that holds them, or a folder of a model with one named linfusion
    configs:     a folder in diffusers layout whose configs a single file takes, None for those of its family
    cache_key:   the same for two plans exactly if they can share their components
    """

    model: WeightFile
    unet: WeightFile | None
    family: str
    preset: str
    configs: Path | None
    prediction: str
    linfusion: WeightFile | None
    keep_projections: bool
    vae: WeightFile | None
    loras: tuple[LoraInput, ...]
    inversions: tuple[InversionInput, ...]
    controlnets: tuple[WeightFile, ...]
    ip_adapter: WeightFile | None
    ip_encoder: WeightFile | None
    ip_scale: float
    cache_key: str

    @property
    def weight_files(self) -> tuple[WeightFile, ...]:
        """All of them."""
        single = (self.model, self.unet, self.linfusion, self.vae, self.ip_adapter, self.ip_encoder)
        adapters = (*(lora.file for lora in self.loras), *(inversion.file for inversion in self.inversions))
        return (*(file for file in single if file is not None), *adapters, *self.controlnets)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewSettings:
    """How previews are made of the running steps.

    every: so many steps; 0: as often as a hundredth of the time allows
    """

    colors: LatentToRgb
    every: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderPlan:
    """One image on one machine, with nothing left to decide or to look up.

    start: an image to begin with, None for noise
    conditioned_size: the size in pixels that SD-XL is told, one that the model knows, at every stage
    budget_bytes: of the device (on a CPU: of the process); weights_resident: all weights stay on the device
    keep_text_encoders: they stay loaded for the next image; components_stay: UNet and VAE stay on the device while its
    prompt is encoded; row_bits: 8 or 16, of each channel of the image's rows
    kernels: "plain" or "fused", of linear attention, norms and GEGLU
    scores_limited: softmax attention takes its queries in parts: torch would keep all scores (attention_scores.py)
    preview: None for no previews
    ranks: processes that make the image together, whose busiest has this memory
    rank_shares: how many rows each of them gets in proportion to the others, () for equally many
    """

    size: Size
    seed: int
    stages: tuple[Stage, ...]
    components: ComponentInputs
    conditioning: ConditioningInputs
    sampler: SamplerSettings
    recipe: UpscaleRecipe
    join: StageJoin
    start: Start | None
    controls: tuple[ControlInput, ...]
    conditioned_size: Size
    machine: Machine
    dtype: str
    attention: str
    phases: tuple[Phase, ...]
    store_budget: StoreBudget
    weights_resident: bool
    keep_text_encoders: bool
    budget_bytes: int
    notes: tuple[str, ...]
    row_bits: int = 8
    kernels: str = "plain"
    scores_limited: bool = False
    preview: PreviewSettings | None = None
    components_stay: bool = False
    ranks: int = 1
    rank_shares: tuple[int, ...] = ()

    @property
    def upscales_image(self) -> bool:
        """Whether stage 0 is the user's image itself."""
        return self.start is not None and not self.start.refined

    @property
    def peak_bytes(self) -> int:
        """The most memory of the device (on a CPU: of the process)."""
        return max(phase.peak_bytes for phase in self.phases)

    @property
    def ram_bytes(self) -> int:
        """The most that waits in RAM beside an accelerator."""
        return max(phase.ram_bytes for phase in self.phases)

    @property
    def file_bytes(self) -> int:
        """The most that waits in scratch files."""
        return max(phase.file_bytes for phase in self.phases)

    @property
    def seconds(self) -> float:
        """How long all phases take, as estimated, with the machine for themselves."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def busy_seconds(self) -> float:
        """How long they take if other programs go on as now: `seconds` on an idle machine."""
        return self.seconds * self.machine.slowdown

    @property
    def prepared_convolutions(self) -> int:
        """How many convolutions torch and oneDNN may keep ready: few for bands of many heights, each with its own."""
        return FEW_PREPARED if any(stage.bands.unet_latent for stage in self.stages) else MANY_PREPARED

    def as_dict(self) -> dict[str, Any]:
        """The plan for JSON."""
        return {
            "size": str(self.size),
            "device": self.machine.device,
            "device_name": self.machine.device_name,
            "dtype": self.dtype,
            "attention": self.attention,
            "kernels": self.kernels,
            "budget_bytes": self.budget_bytes,
            "peak_bytes": self.peak_bytes,
            "ram_bytes": self.ram_bytes,
            "file_bytes": self.file_bytes,
            "weights_resident": self.weights_resident,
            "seconds": round(self.seconds, 1),
            "busy_seconds": round(self.busy_seconds, 1),
            "speed_measured": self.machine.speed(self.dtype).measured,
            "stages": [
                {**asdict(stage), "size": str(stage.size), "before": str(stage.before), "canvas": str(stage.canvas)}
                for stage in self.stages
            ],
            "phases": [_told(phase) for phase in self.phases],
            "notes": list(self.notes),
        }


def _told(phase: Phase) -> dict[str, Any]:
    """A phase for JSON; its work is for the machine's own use."""
    return {name: value for name, value in asdict(phase).items() if name != "work"}
