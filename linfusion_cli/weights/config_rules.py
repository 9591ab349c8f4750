"""Which settings of a model's configs linfusion honours, and at which values: everything else is refused by name.

A setting that is not in the config has the default of its class in diffusers or transformers, which is always allowed.
Each table below has every setting of its class; a test compares them with the signatures of the installed libraries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.config_values import (
    ANY,
    FLAG,
    MOST_LAYERS,
    NONE,
    Allowed,
    Either,
    Listed,
    Real,
    Whole,
    only,
    optional,
    shown,
)
from linfusion_cli.weights.controlnet_union import CLASSES as UNION_CLASSES

LAYERS = Whole(1, MOST_LAYERS)
BLOCKS = Either((Whole(0, MOST_LAYERS), Listed(Whole(0, MOST_LAYERS), nested=True)))
WIDTHS = Listed(Whole())
HEADS = Either((Whole(), WIDTHS))
SILU = only("silu", "swish")
# Of exponential moving averages, which trainers leave in the configs of UNets and autoencoders.
EMA = dict.fromkeys(
    ("decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup"), ANY
)


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one part of a model. `classes`: names that its `_class_name` (or `architectures`) may say."""

    what: str
    classes: tuple[str, ...]
    settings: Mapping[str, Allowed]


_BOTH: dict[str, Allowed] = {  # of UNet and ControlNet
    "in_channels": only(4),
    "flip_sin_to_cos": FLAG,
    "freq_shift": Real(-1, 1),
    "down_block_types": Listed(only("DownBlock2D", "CrossAttnDownBlock2D", "ResnetDownsampleBlock2D")),
    "mid_block_type": only("UNetMidBlock2DCrossAttn", "UNetMidBlock2D"),
    "only_cross_attention": Either((only(False), Listed(only(False)))),
    "block_out_channels": WIDTHS,
    "layers_per_block": Whole(1, MOST_LAYERS),
    "downsample_padding": only(1),
    "mid_block_scale_factor": only(1),
    "act_fn": SILU,
    "norm_num_groups": Whole(),
    "norm_eps": Real(0, 1),
    "cross_attention_dim": Whole(),
    "transformer_layers_per_block": BLOCKS,
    "encoder_hid_dim": NONE,
    "encoder_hid_dim_type": NONE,
    "attention_head_dim": HEADS,
    "num_attention_heads": NONE,
    "use_linear_projection": FLAG,
    "class_embed_type": NONE,
    "addition_embed_type": only(None, "text_time"),
    "addition_time_embed_dim": optional(Whole()),
    "num_class_embeds": NONE,
    "upcast_attention": FLAG,
    "resnet_time_scale_shift": only("default"),
    "projection_class_embeddings_input_dim": optional(Whole(1, 1 << 16)),
    "addition_embed_type_num_heads": ANY,  # of an embedding that is refused
}
UNET = Rules(
    "UNet",
    ("UNet2DConditionModel",),
    _BOTH
    | {
        "sample_size": ANY,  # the preset says what size the model was trained at
        "out_channels": only(4),
        "center_input_sample": only(False),
        "up_block_types": Listed(only("UpBlock2D", "CrossAttnUpBlock2D", "ResnetUpsampleBlock2D")),
        "dropout": Either((only(0), Real(0, 1))),  # of training
        "reverse_transformer_layers_per_block": optional(BLOCKS),
        "dual_cross_attention": only(False),
        "resnet_skip_time_act": only(False),
        "resnet_out_scale_factor": only(1.0),
        "time_embedding_type": only("positional"),
        "time_embedding_dim": NONE,
        "time_embedding_act_fn": NONE,
        "timestep_post_act": NONE,
        "time_cond_proj_dim": optional(Whole(4)),  # of latent consistency models
        "conv_in_kernel": only(3),
        "conv_out_kernel": only(3),
        "attention_type": only("default"),
        "class_embeddings_concat": only(False),
        "mid_block_only_cross_attention": only(None, False),
        "cross_attention_norm": NONE,
        **EMA,
    },
)
CONTROLNET = Rules(
    "ControlNet",
    ("ControlNetModel",),
    _BOTH
    | {
        "conditioning_channels": only(3),
        "controlnet_conditioning_channel_order": only("rgb", "bgr"),
        "conditioning_embedding_out_channels": WIDTHS,
        "global_pool_conditions": FLAG,
        "sample_size": ANY,
        **EMA,
    },
)
CONTROLNET_UNION = Rules(
    "ControlNet-union",
    UNION_CLASSES,
    {
        **CONTROLNET.settings,
        "num_control_type": Whole(1, 64),
        "num_trans_channel": Whole(),
        "num_trans_head": Whole(),
        "num_trans_layer": LAYERS,
        "num_proj_channel": Whole(),
    },
)
T2I_ADAPTER = Rules(
    "T2I-Adapter",
    ("T2IAdapter",),
    {
        "in_channels": only(1, 3),
        "channels": WIDTHS,
        "num_res_blocks": LAYERS,
        "downscale_factor": only(8, 16),
        "adapter_type": only("full_adapter", "full_adapter_xl", "light_adapter"),
    },
)
VAE = Rules(
    "autoencoder",
    ("AutoencoderKL",),
    {
        "in_channels": only(3),
        "out_channels": only(3),
        "down_block_types": Listed(only("DownEncoderBlock2D")),
        "up_block_types": Listed(only("UpDecoderBlock2D")),
        "block_out_channels": WIDTHS,
        "layers_per_block": LAYERS,
        "act_fn": SILU,
        "latent_channels": only(4),
        "norm_num_groups": Whole(),
        "sample_size": Either((Whole(1, 1 << 16), Listed(Whole(1, 1 << 16)))),  # of tiles, which are not used
        "scaling_factor": Real(0, 100),
        "shift_factor": only(None, 0),  # of SD 3 and Flux; the pipelines of diffusers for 1.x, 2.x and XL ignore it
        "latents_mean": NONE,
        "latents_std": NONE,
        "force_upcast": FLAG,
        "use_quant_conv": FLAG,
        "use_post_quant_conv": FLAG,
        "mid_block_add_attention": FLAG,
        **EMA,
    },
)
_SCHEDULERS = (
    *("DDIMScheduler", "DDPMScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler"),
    *("DPMSolverSDEScheduler", "DPMSolverSinglestepScheduler", "EulerAncestralDiscreteScheduler"),
    *("EulerDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler"),
    *("LCMScheduler", "LMSDiscreteScheduler", "PNDMScheduler", "SASolverScheduler", "TCDScheduler"),
    "UniPCMultistepScheduler",
)
SCHEDULER = Rules(
    "scheduler",
    _SCHEDULERS,
    {
        "num_train_timesteps": Whole(2, 100_000),
        "beta_start": Real(0, 1),
        "beta_end": Real(0, 1),
        "beta_schedule": only("linear", "scaled_linear", "squaredcos_cap_v2"),
        "trained_betas": NONE,
        "prediction_type": only("epsilon", "v_prediction"),
        "rescale_betas_zero_snr": FLAG,
        "timestep_spacing": only("leading", "trailing", "linspace"),
        "steps_offset": Whole(0, 999),
        "set_alpha_to_one": FLAG,
        "skip_prk_steps": FLAG,
        "clip_sample": only(True, False, None),  # always off, as in the pipelines of diffusers: latents are no pixels
        "thresholding": only(False),
        **dict.fromkeys(
            ("clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value"), ANY
        ),  # of the two above
        "interpolation_type": only("linear"),
        "timestep_type": only("discrete"),
        "use_karras_sigmas": FLAG,
        "use_exponential_sigmas": FLAG,
        "use_beta_sigmas": FLAG,
        "use_lu_lambdas": FLAG,
        "use_flow_sigmas": only(False),
        "use_dynamic_shifting": only(False),
        **dict.fromkeys(("flow_shift", "time_shift_type"), ANY),  # of the two above
        "shift_terminal": NONE,
        "sigma_min": NONE,
        "sigma_max": NONE,
        "final_sigmas_type": only("zero", "sigma_min"),
        "solver_order": Whole(1, 3),
        "solver_type": only("midpoint", "heun", "bh1", "bh2", "logrho"),
        "solver_p": NONE,
        "algorithm_type": only(
            *("dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver", "deis", "data_prediction"),
            "noise_prediction",
        ),
        "lower_order_final": FLAG,
        "euler_at_final": FLAG,
        "lambda_min_clipped": ANY,  # of the cosine schedule alone; below any value that it reaches by default
        "variance_type": only(None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
        "predict_x0": only(True),
        "predict_epsilon": only(True),  # before prediction_type
        "disable_corrector": Either((only([]), NONE)),
        "original_inference_steps": Whole(1, 1000),
        "timestep_scaling": Real(0, 1000),
        **dict.fromkeys(("noise_sampler_seed", "gamma", "eta", "predictor_order", "corrector_order", "tau_func"), ANY),
    },
)
# What a scheduler's config says of the sampler that the model's publisher preferred. The preset chooses the sampler and
# its settings, so that a model saved with an SDE solver does not turn another solver into one.
SAMPLER_CHOICES = frozenset(
    (
        *("algorithm_type", "clip_sample", "corrector_order", "disable_corrector", "dynamic_thresholding_ratio"),
        *("clip_sample_range", "eta", "euler_at_final", "final_sigmas_type", "gamma", "interpolation_type"),
        *("lambda_min_clipped", "lower_order_final", "noise_sampler_seed", "predict_x0", "predictor_order"),
        *("sample_max_value", "skip_prk_steps", "solver_order", "solver_p", "solver_type", "tau_func", "thresholding"),
        *("timestep_type", "use_beta_sigmas", "use_exponential_sigmas", "use_karras_sigmas", "use_lu_lambdas"),
        *("variance_type", "flow_shift", "time_shift_type", "use_dynamic_shifting", "use_flow_sigmas"),
        *("shift_terminal", "sigma_max", "sigma_min", "predict_epsilon"),
    )
)
# Settings that every config of transformers may hold, most of them about generating text; no embedding depends on them.
_TRANSFORMERS: dict[str, Allowed] = dict.fromkeys(
    (
        *("_name_or_path", "add_cross_attention", "architectures", "attention_dropout", "attn_implementation"),
        *("bad_words_ids", "begin_suppress_tokens", "chunk_size_feed_forward", "cross_attention_hidden_size"),
        *("decoder_start_token_id", "diversity_penalty", "do_sample", "dropout", "dtype", "early_stopping"),
        *("encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "finetuning_task"),
        *("forced_bos_token_id", "forced_eos_token_id", "gradient_checkpointing", "id2label"),
        *("initializer_factor", "initializer_range", "is_decoder", "is_encoder_decoder", "label2id"),
        *("length_penalty", "max_length", "min_length", "model_type", "no_repeat_ngram_size", "num_beam_groups"),
        *("num_beams", "num_return_sequences", "output_attentions", "output_hidden_states", "output_scores"),
        *("prefix", "problem_type", "remove_invalid_values", "repetition_penalty", "return_dict"),
        *("return_dict_in_generate", "sep_token_id", "suppress_tokens", "task_specific_params", "temperature"),
        *("tf_legacy_loss", "tie_encoder_decoder", "tie_word_embeddings", "tokenizer_class", "top_k", "top_p"),
        *("torch_dtype", "torchscript", "transformers_version", "typical_p", "use_bfloat16", "use_cache"),
    ),
    ANY,
)
_ENCODER: dict[str, Allowed] = {
    "hidden_size": Whole(),
    "intermediate_size": Whole(1, 1 << 16),
    "num_hidden_layers": LAYERS,
    "num_attention_heads": Whole(),
    "projection_dim": Whole(),
    "hidden_act": only("quick_gelu", "gelu"),
    "layer_norm_eps": Real(0, 1),
    "pruned_heads": only({}),
    **_TRANSFORMERS,
}
TOKEN_ID = optional(Whole(0, 1 << 20))
TEXT_ENCODER = Rules(
    "text encoder",
    ("CLIPTextModel", "CLIPTextModelWithProjection"),
    _ENCODER
    | {
        "vocab_size": Whole(2, 1 << 20),
        "max_position_embeddings": Whole(2, 1 << 12),
        "eos_token_id": Whole(0, 1 << 20),  # where the embedding of a whole text is read
        **dict.fromkeys(("bos_token_id", "pad_token_id"), TOKEN_ID),
    },
)
IMAGE_ENCODER = Rules(
    "image encoder",
    ("CLIPVisionModelWithProjection",),
    _ENCODER | {"image_size": Whole(1, 4096), "patch_size": Whole(1, 1024), "num_channels": only(3)},
)
RULES = {
    "unet": UNET,
    "vae": VAE,
    "controlnet": CONTROLNET,
    "controlnet_union": CONTROLNET_UNION,
    "t2i_adapter": T2I_ADAPTER,
    "scheduler": SCHEDULER,
    "text_encoder": TEXT_ENCODER,
    "text_encoder_2": replace(TEXT_ENCODER, classes=("CLIPTextModelWithProjection",)),  # its projection is read
    "image_encoder": IMAGE_ENCODER,
}
REQUIRED = {
    "unet": ("block_out_channels", "down_block_types", "up_block_types", "cross_attention_dim"),
    "vae": ("block_out_channels", "down_block_types", "up_block_types"),
    "text_encoder_2": ("architectures",),
}
PER_LEVEL = (
    *("down_block_types", "up_block_types", "transformer_layers_per_block", "reverse_transformer_layers_per_block"),
    *("attention_head_dim", "only_cross_attention"),
)
# Of the configs that do not say it, as in transformers.
WIDTH_AND_HEADS = {"text_encoder": (512, 8), "text_encoder_2": (512, 8), "image_encoder": (768, 12)}
MOST_BLOCKS = 256  # transformer blocks on the way down; SD-XL has 24
VAE_LEVELS = 4  # an image has eight times the latents' height and width


def check_config(part: str, config: Mapping[str, Any], source: Path | str) -> None:
    """Checks all settings of the config of a part ("unet", "vae", "scheduler", ...) that was read from `source`.

    Raises WeightsError that names the file and the first setting that is unknown, or has a value that is not honoured.
    """
    rules = RULES[part]
    for name in _class_names(config):
        if name not in rules.classes:
            what = f"{source}: its class is {shown(name)}, which linfusion can't use as the {rules.what}"
            raise WeightsError(f"{what}. Allowed: {', '.join(rules.classes[:4])}")
    for key in REQUIRED.get(part, ()):
        if config.get(key) in (None, []):
            raise WeightsError(f"{source}: its setting {key} is missing: this is not the config of a {rules.what}")
    for key, value in config.items():
        if not key.startswith("_"):
            _check_setting(rules, key, value, source)
    _check_levels(part, config, source)
    if part in WIDTH_AND_HEADS:
        width, heads = map(config.get, ("hidden_size", "num_attention_heads"), WIDTH_AND_HEADS[part])
        if width % heads:
            raise WeightsError(f"{source}: its num_attention_heads, {heads}, does not divide its hidden_size, {width}")


def noise_schedule(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a checked scheduler's config that are the model's: how it was trained, and at which timesteps."""
    return {key: value for key, value in config.items() if key not in SAMPLER_CHOICES}


def deciding(part: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a checked config that decide what is computed; the others have types that libraries change."""
    settings = RULES[part].settings
    return {key: value for key, value in config.items() if settings.get(key, ANY) is not ANY}


def _class_names(config: Mapping[str, Any]) -> Iterable[object]:
    if "_class_name" in config:
        yield config["_class_name"]
    names = config.get("architectures") or []
    yield from names if isinstance(names, list) else [names]


def _check_setting(rules: Rules, key: str, value: object, source: Path | str) -> None:
    allowed = rules.settings.get(key)
    if allowed is None:
        if value is not None and value is not False:
            what = f"its setting {shown(key)} = {shown(value)} is not known of the {rules.what}"
            raise WeightsError(f"{source}: {what}: images may depend on it")
    elif not allowed.admits(value):
        text = f"its {key} is {shown(value)}, which linfusion does not support in the {rules.what}"
        raise WeightsError(f"{source}: {text}. Allowed: {allowed.text}")


def _check_levels(part: str, config: Mapping[str, Any], source: Path | str) -> None:
    """Lists with a value per level must have as many as there are levels."""
    if "block_out_channels" not in config:
        return
    levels = len(config["block_out_channels"])
    for key in PER_LEVEL:
        value = config.get(key)
        if isinstance(value, list | tuple) and len(value) != levels:
            raise WeightsError(f"{source}: its {key} has {len(value)} values, block_out_channels {levels}")
    depths = config.get("transformer_layers_per_block", 1)
    for kind, depth in zip(
        config.get("down_block_types", ()), depths if isinstance(depths, list) else (), strict=False
    ):
        if "CrossAttn" in kind and 0 in (depth if isinstance(depth, list) else (depth,)):
            raise WeightsError(
                f"{source}: its transformer_layers_per_block has 0 blocks in a {kind}. Allowed: 1 or more"
            )
    for key in ("num_trans_channel", "num_proj_channel") if part == "controlnet_union" else ():
        if config.get(key, 320) != config["block_out_channels"][0]:
            what = f"its {key} is {shown(config.get(key, 320))}, the first of block_out_channels another number"
            raise WeightsError(f"{source}: {what}")
    _check_sums(config, levels, source)
    if part == "vae" and levels != VAE_LEVELS:
        raise WeightsError(f"{source}: an autoencoder of {levels} levels. Allowed: {VAE_LEVELS}")


def _check_sums(config: Mapping[str, Any], levels: int, source: Path | str) -> None:
    """Each number may be allowed, and all of them together be no model: its building would take hours."""
    depths = config.get("transformer_layers_per_block", 1)
    depths = depths if isinstance(depths, list) else [depths] * levels
    layers = int(config.get("layers_per_block", 2))
    blocks = sum(sum(depth) if isinstance(depth, list) else layers * depth for depth in depths)
    if "transformer_layers_per_block" in config and blocks > MOST_BLOCKS:
        what = f"its transformer_layers_per_block and layers_per_block make {blocks} transformer blocks"
        raise WeightsError(f"{source}: {what}. Allowed: at most {MOST_BLOCKS}")
