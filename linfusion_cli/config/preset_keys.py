"""Every key that a preset may set: those of options, from their table, and those that no option sets."""

from __future__ import annotations

from typing import get_args

from linfusion_cli.config.choices import Between, Dtype, Family, Padding, Resize, Variant
from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.options import by_preset_key
from linfusion_cli.config.preset_key import PresetKey
from linfusion_cli.config.value_range import Range

FILE_ONLY = (
    PresetKey(
        key="model.family",
        kind=str,
        help="The architecture: Stable Diffusion 1.x, 2.x or XL.",
        choices=get_args(Family),
    ),
    PresetKey(
        key="model.revision",
        kind=str,
        help="The branch, tag or commit on the hub.",
        details='"" = the repository\'s main branch. A commit hash never changes.',
    ),
    PresetKey(
        key="model.variant",
        kind=str,
        help="The file variant on the hub.",
        details='fp16 is half the download, "" the full files.',
        choices=get_args(Variant),
    ),
    PresetKey(
        key="model.vae_float16",
        kind=str,
        is_location=True,
        help='The autoencoder in float16 where vae is "", for models whose own overflows there.',
        details='"" = the model\'s own (in float32 if its config asks for it).',
    ),
    PresetKey(
        key="model.configs",
        kind=str,
        is_location=True,
        help="The shapes of a single file that differ from its family's: a folder in diffusers layout without weights.",
        details='"" = the family\'s.',
    ),
    PresetKey(
        key="model.loras",
        neutral=(),
        kind=str,
        is_list=True,
        is_location=True,
        help="LoRAs that belong to the model, each LOCATION[:WEIGHT][@STAGES].",
        details="Those of the option go on top. Another model goes without them.",
    ),
    PresetKey(
        key="model.train_size_px",
        kind=int,
        help="The side, in pixels, of the square that the model was trained on.",
        details="Stage 0 has about this area, whatever its aspect.",
        range=Range(64, 4096, multiple_of=8),
    ),
    PresetKey(key="model.dtype_cuda", kind=str, help="Number format on a CUDA device.", choices=get_args(Dtype)),
    PresetKey(key="model.dtype_cpu", kind=str, help="Number format on the CPU.", choices=get_args(Dtype)),
    PresetKey(
        key="sampling.guidance_interval",
        kind=float,
        help="[low, high] in fractions of the training timesteps: guidance acts where low <= t/T <= high.",
        details="t/T = 1 is noise. Outside, a step costs half. From 0 to 1 each.",
        is_list=True,
        allowed="two numbers [low, high] with 0 <= low <= high <= 1",
    ),
    PresetKey(
        key="sampling.guidance_low",
        neutral=0.0,
        kind=float,
        help="Guidance of coarse shapes alone in upscale stages; 0 = guidance_scale.",
        details="High values saturate colours and repeat things.",
        range=Range(0, 100),
    ),
    PresetKey(
        key="sampling.guidance_high",
        neutral=0.0,
        kind=float,
        help="Guidance of fine detail alone in upscale stages; 0 = guidance_scale.",
        details="Two scales cost no extra pass.",
        range=Range(0, 100),
    ),
    PresetKey(
        key="upscale.factor",
        kind=float,
        help="How much a stage multiplies both sides at most.",
        details="All stages grow evenly, with as few as that allows.",
        range=Range(1.1, 4),
    ),
    PresetKey(
        key="upscale.skip_exponent",
        kind=float,
        help="How fast the pull towards the stage before fades: the skip residual's cosine to this power.",
        range=Range(0, 20),
    ),
    PresetKey(
        key="upscale.dilated_exponent",
        kind=float,
        help="How fast the dilated branch, which keeps the whole image coherent, fades.",
        range=Range(0, 20),
    ),
    PresetKey(
        key="upscale.lowpass_exponent",
        kind=float,
        help="How fast the low-pass filter before the dilated branch fades.",
        range=Range(0, 20),
    ),
    PresetKey(
        key="upscale.lowpass_sigma",
        kind=float,
        help="The standard deviation of that filter at the beginning of a stage, in latents.",
        range=Range(0.05, 100),
    ),
    PresetKey(
        key="upscale.dilated_cutoff",
        kind=float,
        help="The dilated branch is not run where its weight is below this.",
        details="0 = always run, 1 = never run.",
        range=Range(0, 1),
    ),
    PresetKey(
        key="upscale.lowpass_padding",
        kind=str,
        help="What the low-pass filter sees beyond the edges.",
        choices=get_args(Padding),
    ),
    PresetKey(
        key="upscale.between",
        kind=str,
        help="What is enlarged between two stages: the decoded pixel image or the latent itself.",
        choices=get_args(Between),
    ),
    PresetKey(key="upscale.resize", kind=str, help="How it is enlarged.", choices=get_args(Resize)),
    PresetKey(
        key="upscale.overscan_px",
        kind=int,
        help="How many pixels more are computed to the right and below, and cut off at the end of a stage.",
        details="Encoders pad with zeros on these two sides, which a small model answers with coloured edges. Where "
        "between is pixel only.",
        range=Range(0, 128, multiple_of=8),
    ),
    PresetKey(
        key="upscale.overscan_all_sides",
        neutral=False,
        kind=bool,
        help="Whether overscan_px are computed to the left and above, too.",
    ),
    PresetKey(
        key="upscale.match_statistics",
        kind=bool,
        help="Whether each stage ends with the mean and standard deviation, per channel, of stage 0.",
    ),
    PresetKey(
        key="upscale.frequency_mixing",
        neutral=False,
        kind=bool,
        help="Whether a stage starts from the enlarged latents' coarse shapes and the enlarged image's fine ones.",
        details="Where between is pixel only.",
    ),
    PresetKey(
        key="upscale.structure_guidance",
        neutral=0.0,
        kind=float,
        help="How strongly coarse shapes and colours are pulled to those of the stage before, at every step.",
        details="0 = not at all.",
        range=Range(0, 1),
    ),
    PresetKey(
        key="upscale.structure_scale",
        neutral=0.25,
        kind=float,
        help="What counts as coarse: the side of shrunk latents over that of the full ones.",
        details="0.25 keeps layout and colours.",
        range=Range(0.01, 1),
    ),
    PresetKey(
        key="upscale.early_end",
        neutral=0.0,
        kind=float,
        help="Where a stage that another follows ends: the part of the steps, at its end, that is left out.",
        details="0 = at its last step. A stage never ends with more noise than the next one begins with. Faster, and "
        "less detail goes from stage to stage.",
        range=Range(0, 1),
    ),
    PresetKey(
        key="upscale.edge_noise",
        neutral=0.0,
        kind=float,
        help="How much extra noise a stage starts with at edges, for more detail there.",
        details="0 = none.",
        range=Range(0, 2),
    ),
    PresetKey(
        key="upscale.vae_window_latents",
        kind=int,
        help="How many latents the attention in the middle of the autoencoder sees: it is exact up to this many, and a "
        "window of rows above.",
        details="Its time grows with the area times this. 262144 is exact up to 4096x4096. The record tells it.",
        range=Range(4096, 1 << 30),
    ),
    PresetKey(
        key="output.name",
        kind=str,
        help="The file's name, without folders.",
        details="Fields: {preset} {seed} {width} {height} {size} {index} {slug} {id}; a number may be padded with "
        "zeros, as in {index:04d}.",
        allowed='a file name such as "{preset}-{seed}-{width}x{height}.png"',
    ),
)


def preset_key(key: str) -> PresetKey:
    """The key's row. Raises KeyError for an unknown one."""
    return preset_keys()[key]


def preset_keys() -> dict[str, PresetKey]:
    """Every key by its name."""
    rows: tuple[OptionRow, ...] = tuple(by_preset_key().values())
    return {key.key: key for key in (*(PresetKey.of(row) for row in rows), *FILE_ONLY)}
