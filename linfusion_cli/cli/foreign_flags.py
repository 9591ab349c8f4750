"""Flags that a command lacks: those of other tools, with what to use in their place, and misspelled ones."""

from __future__ import annotations

from typing import Any

from linfusion_cli.cli.spelling import other_words, told
from linfusion_cli.config.midjourney import midjourney_advice
from linfusion_cli.errors import nearest_name

_STAGES = "every large image is made in stages here; --size names the last, --upscale-strength how much each draws anew"
_MEMORY = "the plan keeps within the memory that is free, or within --max-memory"
_SEVERAL = "generate -n N makes N images of a prompt, each with a seed of its own"
_DTYPE = "--dtype float16, bfloat16 or float32 names the number format"
_BANDS = "the autoencoder works in bands, which leave no seams; no option is needed"
_SEED = "there are no variation seeds; --seed names the noise"
_FACES = "faces are not redrawn by another model"
_MASK = "there are no masks; --init-image with --strength draws a whole image anew in part"
_TILES = "images that repeat without a seam are not made"
_REFINER = "one model draws all steps; --upscale-strength says how much each stage draws anew"
_SCALE = "--size names the size of the image; linfusion upscale IMAGE --scale 2 makes an image of yours larger"
_WORDS = 'the prompt stands without a flag: linfusion generate "a mountain lake"'
_OFFLINE = "only linfusion fetch uses the network"
_CHECKER = "images are neither checked nor marked; there is nothing to switch off"
_QUIET = "what happens is shown unless --quiet is given; --log-file keeps it, --debug shows what libraries say"
_FORMAT = "--format or the ending of -o says how the file is written"
ADVICE = {
    "n": "-n is the number of images of generate; --negative says what not to draw",
    "n-iter": _SEVERAL,
    "n-samples": _SEVERAL,
    "batch-size": _SEVERAL,
    "batch-count": _SEVERAL,
    "num-images": _SEVERAL,
    "num-images-per-prompt": _SEVERAL,
    "hires": _STAGES,
    "hires-fix": _STAGES,
    "hires-scale": _STAGES,
    "hires-steps": _STAGES,
    "hires-upscaler": _STAGES,
    "highres-fix": _STAGES,
    "enable-hr": _STAGES,
    "hr-scale": _STAGES,
    "hr-upscaler": _STAGES,
    "hr-second-pass-steps": _STAGES,
    "lowvram": _MEMORY,
    "medvram": _MEMORY,
    "novram": _MEMORY,
    "low-vram": _MEMORY,
    "xformers": "--attention linear or softmax names the attention, which is streamed either way",
    **dict.fromkeys(("cpu-offload", "enable-model-cpu-offload", "enable-sequential-cpu-offload", "offload"), _MEMORY),
    **dict.fromkeys(("vram", "always-offload-from-vram", "highvram", "normalvram"), _MEMORY),
    **dict.fromkeys(
        ("enable-attention-slicing", "attention-slicing", "opt-sdp-attention", "opt-split-attention"), _MEMORY
    ),
    **dict.fromkeys(("vae-tiling", "tiled-vae", "vae-slicing", "tile-size", "tile-overlap", "tiled-diffusion"), _BANDS),
    **dict.fromkeys(("b", "iterations", "n-images", "num-outputs"), _SEVERAL),
    **dict.fromkeys(("hires-upscale", "hires-strength-steps", "hrf", "highres"), _STAGES),
    **dict.fromkeys(("mask", "mask-image", "init-mask", "inpaint", "outpaint", "invert-mask"), _MASK),
    **dict.fromkeys(("tiling", "seamless", "tileable"), _TILES),
    **dict.fromkeys(("facetool", "gfpgan", "codeformer", "face-restoration"), _FACES),
    **dict.fromkeys(("variation-seed", "variation-amount", "subseed-strength", "variations"), _SEED),
    **dict.fromkeys(("refiner", "refiner-switch-at", "refiner-start", "aesthetic-score"), _REFINER),
    "scale": "--guidance is how strongly the prompt pulls, --size the size; linfusion upscale IMAGE has --scale",
    **dict.fromkeys(("upscale", "upscaler", "upscale-factor", "factor", "upscale-by"), _SCALE),
    **dict.fromkeys(("prompt", "positive", "positive-prompt", "text"), _WORDS),
    **dict.fromkeys(("offline", "local-files-only", "cache-dir", "hf-token", "token"), _OFFLINE),
    **dict.fromkeys(
        ("safety-checker", "disable-safety-checker", "nsfw-checker", "watermark", "no-watermark"), _CHECKER
    ),
    **dict.fromkeys(("verbose", "v", "debug-log"), _QUIET),
    **dict.fromkeys(("png", "jpg", "jpeg", "webp", "save-format"), _FORMAT),
    "no": "--negative says what not to draw",
    "uc": "--negative says what not to draw",
    "checkpoint-name": "--model names a model; --checkpoint says how much work an interruption may cost",
    "pretrained-model-name-or-path": "--model LOCATION names a model",
    "lora-weight": "the weight stands behind the file: --lora armour.safetensors:0.8",
    "lora-scale": "the weight stands behind the file: --lora armour.safetensors:0.8",
    "vae-path": "--vae LOCATION names an autoencoder",
    "image": "--init-image starts from an image, --control-image and --ip-image guide by one",
    "images": _SEVERAL,
    "w": "--width, or -W",
    "h": "--height, or -H",
    "noise-schedule": "--sigma-schedule names the noise levels of the steps",
    "scheduler-type": "--sigma-schedule names the noise levels of the steps",
    "cpu": "--device cpu",
    "use-cpu": "--device cpu",
    "gpu": "--device cuda, or cuda:1 for the second card",
    "threads": "OMP_NUM_THREADS=2 before the command says how many threads compute",
    "force": "--overwrite replaces a file, --yes starts long work",
    "f": "--overwrite replaces a file, --yes starts long work",
    "y": "--yes starts long work",
    "save-path": "-o names the file or the folder",
    "output-dir": "-o names the file or the folder",
    "output-path": "-o names the file or the folder",
    "filename": "-o names the file or the folder",
    "turbo": "--preset sdxl-turbo-4k",
    "lcm": "--preset lcm-4k",
    "sdxl": "--preset sdxl-4k",
    "xl": "--preset sdxl-4k",
    "workflow": "workflows are not run; linfusion inspect FILE shows the settings that an image of ComfyUI holds",
    "s-churn": "--eta says how much fresh noise a step adds, where a scheduler has one",
    **dict.fromkeys(("fp16", "fp32", "bf16", "half", "no-half", "no-half-vae", "precision"), _DTYPE),
    **dict.fromkeys(("torch-dtype", "variant", "upcast-vae"), _DTYPE),
    "styles": "write the style's words into the prompt",
    "subseed": "there are no variation seeds; --seed names the noise",
    "restore-faces": "faces are not redrawn by another model",
}
_GUIDED = "--guidance is one strength for all steps"
_RANGE = "an image is drawn from its first step to its last; --strength says at which an --init-image enters"
_TARGET = "sizes are given to the model as it was trained: the size of the image, without a crop"
_SAVED = "-o names the file, whose record holds the settings; --stages keeps the image of each stage"
_FOLDERS = "--models FOLDER names the folder that holds them; each option of weights then takes a file's name"
_ENCODERS = "the text encoders are those of --model"
_PARTS = "parts move to the device when they are needed, by the plan; --max-memory and --device are the limits"
_SERVER = "there is no server; linfusion batch makes many images, linfusion view shows one in the browser"
_STYLE = "write the style's words into the prompt"
_SIGMA = "--scheduler, --sigma-schedule and --timestep-spacing name the steps"
_LORAS = "--lora FILE:WEIGHT names a LoRA, once for each"
_CHURN = "--eta says how much fresh noise a step adds, where a scheduler has one"
_PROMPTS = "one prompt goes to all text encoders of a model; --negative says what not to draw"
_CALLS = "that is an argument of diffusers' Python call; docs/python.md has this project's"
_GROUPS = (  # of A1111's API, ComfyUI, diffusers, InvokeAI, Fooocus, stable-diffusion.cpp, mflux and Midjourney
    (_STAGES, "hr-resize-x hr-resize-y hr-prompt hr-negative-prompt hr-sampler-name hr-scheduler hr-checkpoint-name"),
    (_STAGES, "firstphase-width firstphase-height hrf-enabled hrf-strength hrf-method uov-method upscale-repeats"),
    (_SCALE, "upscale-model upscale-method resize-mode repeat"),
    (_CHURN, "s-tmin s-tmax s-noise add-noise"),
    (_GUIDED, "s-min-uncond guidance-rescale cfg-rescale-multiplier image-cfg-scale img-cfg-scale slg-scale"),
    (_GUIDED, "adm-guidance adaptive-cfg guidance-end sharpness enable-freeu"),
    (_SEED, "seed-resize-from-h seed-resize-from-w rng rand-device fixed-code generator"),
    (_SAVED, "do-not-save-samples do-not-save-grid send-images save-images skip-grid skip-save metadata board"),
    (_SAVED, "stepwise-image-output-dir controlnet-save-canny return-with-leftover-noise"),
    ("config.toml and a preset hold settings: linfusion config, linfusion presets show NAME", "override-settings"),
    ("config.toml and a preset hold settings: linfusion config, linfusion presets show NAME", "config performance"),
    ("linfusion sheet draws grids; there are no scripts", "script-name script-args alwayson-scripts n-rows"),
    (_REFINER, "refiner-checkpoint refiner-model refiner-steps refiner-cfg-scale refiner-scheduler"),
    (_REFINER, "overwrite-step overwrite-switch denoising-end denoising-start"),
    (_MASK, "mask-blur inpainting-fill inpaint-full-res inpainting-mask-invert image-outpaint-padding"),
    (_RANGE, "start-at-step end-at-step control-guidance-start"),
    ("its meaning is turned round in mflux; --strength is how much of --init-image is drawn anew", "image-strength"),
    ("--init-image FILE starts from an image", "init-images include-init-images image-path latent-image M mode"),
    ("--control-image FILE is what a ControlNet reads", "controlnet-image-path guess-mode"),
    ("--controlnet LOCATION names a ControlNet", "control-net control-net-name"),
    ("--control-preprocess canny finds the edges", "canny"),
    ("--ip-image FILE is what an IP-Adapter reads", "ip-adapter-image ip-adapter-image-embeds iw sref style-ratio"),
    (_LORAS, "lora-name strength-model strength-clip lora-paths lora-scales cross-attention-kwargs lora-style"),
    ("--clip-skip 2 leaves out the last layer of the text encoder", "stop-at-clip-layer"),
    (_PROMPTS, "prompt-2 negative-prompt-2 positive-style-prompt prompt-embeds"),
    ("--negative says what not to draw", "negative-style-prompt"),
    (_CALLS, "output-type return-dict callback latents"),
    (_TARGET, "original-size crops-coords-top-left target-size"),
    (_SIGMA, "timesteps sigmas plms klms dpm-solver ddim schedule"),
    (_BANDS, "enable-vae-tiling enable-vae-slicing vae-tiling-split"),
    (_MEMORY, "low-ram mlx-cache-limit-gb medvram-sdxl enable-xformers-memory-efficient-attention diffusion-fa"),
    (_PARTS, "vae-on-cpu clip-on-cpu control-net-cpu"),
    ("--kernels names the kernels; nothing is compiled for an image", "torch-compile compile channels-last"),
    (_TILES, "seamless-x seamless-y tile"),
    (_SEVERAL, "image-number"),
    (_STYLE, "style-selections style"),
    ("--model LOCATION names a model", "base-model m laion400m"),
    ("--unet LOCATION names a UNet", "diffusion-model"),
    (_ENCODERS, "clip-l clip-g t5xxl"),
    ("--preview FILE shows the running step, without a model of its own", "taesd preview-method"),
    (_FOLDERS, "embd-dir lora-model-dir"),
    (f"{_DTYPE}; weights are not quantized", "quantize type upcast-sampling"),
    ("--color-profile says how colours are tagged", "color"),
    ("--seed names the noise; --size, --steps and --scheduler have no short form", "s"),
    ("OMP_NUM_THREADS=2 before the command says how many threads compute", "t"),
    ("--prompt-file FILE holds a prompt; linfusion batch FILE takes one a line", "from-file"),
    ("linfusion inspect FILE shows the command that makes an image again", "config-from-metadata C"),
    (_SERVER, "api listen share port theme autolaunch no-gradio-queue skip-torch-cuda-test"),
    ("a value that is not a number stops the image; there is nothing to switch off", "disable-nan-check"),
)
ADVICE |= {word: text for text, words in _GROUPS for word in words.split()}


AMBIGUOUS = ("--v",)  # -v is verbose, --v the version of Midjourney


def advice(flag: str) -> str:
    """What to use instead of a flag of another tool, such as "--hires-fix"; "" for one that is not known."""
    name = flag.lstrip("-").replace("_", "-")
    theirs = midjourney_advice(name) if name not in ADVICE or flag in AMBIGUOUS else None
    return ADVICE.get(name, "") if theirs is None else told(theirs)


def unknown_flag(error: BaseException) -> str:
    """The message for a flag that the command lacks; "" for any other error of click."""
    if type(error).__name__ != "NoSuchOption":
        return ""
    given = str(getattr(error, "option_name", ""))
    if instead := advice(given):
        return f"no such option {given}: {instead}"
    context: Any = getattr(error, "ctx", None)
    parameters = context.command.params if context is not None else ()
    flags = {flag for one in parameters for flag in (*one.opts, *one.secondary_opts)}
    own = [flag.removeprefix("--") for flag in flags if flag.startswith("--")]
    others = other_words(context.info_name) if context is not None else ()
    close = nearest_name(given.lstrip("-"), own) or nearest_name(given.lstrip("-"), others)
    return f"no such option {given}" + (f". Did you mean --{close}?" if close else "")
