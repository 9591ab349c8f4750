"""Flags that people bring from other tools are answered with what there is."""

from __future__ import annotations

import re

import pytest

from linfusion_cli.cli.app import _built as app_command
from linfusion_cli.cli.app import main
from linfusion_cli.cli.foreign_flags import ADVICE, advice
from linfusion_cli.cli.spelling import other_words
from linfusion_cli.config.options import options_of

THEIRS = """
steps sampling-steps num-inference-steps ddim-steps cfg cfg-scale guidance-scale scale sampler sampler-name
sampling-method scheduler schedule-type scheduler-type noise-schedule negative-prompt neg uc no seed noise-seed
subseed variation-seed batch-size batch-count n-iter n-samples num-images num-images-per-prompt b n iterations
denoising-strength denoise img2img-strength strength init-img init-image image mask mask-image inpaint hires-fix
enable-hr hr-scale hr-upscaler hires-upscale hires-steps upscaler tiling seamless restore-faces facetool gfpgan
clip-skip ckpt ckpt-name pretrained-model-name-or-path lora lora-weight vae vae-path embedding controlnet
controlnet-conditioning-scale control-weight ip-adapter-scale refiner refiner-switch-at aesthetic-score eta s-churn
precision no-half no-half-vae fp16 half bf16 torch-dtype variant medvram lowvram cpu gpu use-cpu xformers
opt-sdp-attention enable-attention-slicing enable-model-cpu-offload cpu-offload vae-tiling tile-size tiled-vae
save-path outdir output-dir out filename prompt positive width height W H w h resolution aspect-ratio ar mp png jpg
format quality save-format verbose v threads max-memory vram overwrite force f yes y turbo lcm sdxl workflow styles
safety-checker disable-safety-checker watermark no-watermark offline cache-dir local-files-only hf-token upscale
upscale-factor
sampler-index hr-resize-x hr-resize-y hr-second-pass-steps hr-sampler-name hr-scheduler hr-prompt hr-negative-prompt
s-tmin s-tmax s-noise s-min-uncond seed-resize-from-h subseed-strength do-not-save-samples do-not-save-grid
override-settings script-name script-args alwayson-scripts send-images save-images firstphase-width firstphase-height
refiner-checkpoint sd-model-checkpoint sd-vae CLIP-stop-at-last-layers init-images resize-mode mask-blur
inpainting-fill inpaint-full-res include-init-images image-cfg-scale negative latent-image vae-name lora-name
strength-model strength-clip control-net-name start-at-step end-at-step return-with-leftover-noise add-noise
stop-at-clip-layer upscale-method guidance-rescale prompt-2 negative-prompt-2 generator latents prompt-embeds
output-type return-dict cross-attention-kwargs denoising-end denoising-start original-size crops-coords-top-left
target-size timesteps sigmas control-guidance-start control-guidance-end guess-mode ip-adapter-image
ip-adapter-image-embeds enable-vae-tiling enable-vae-slicing enable-xformers-memory-efficient-attention enable-freeu
torch-compile compile channels-last cfg-rescale-multiplier seamless-x seamless-y hrf-enabled hrf-strength hrf-method
positive-style-prompt negative-style-prompt refiner-steps refiner-cfg-scale refiner-scheduler rand-device board
sharpness performance image-number image-seed style-selections adm-guidance adaptive-cfg overwrite-step
overwrite-switch uov-method base-model refiner-model guidance-end M m p o s t mode model diffusion-model clip-l clip-g
t5xxl taesd control-net embd-dir upscale-model upscale-repeats type lora-model-dir control-image output img-cfg-scale
guidance slg-scale style-ratio control-strength rng schedule vae-on-cpu clip-on-cpu diffusion-fa control-net-cpu canny
color quantize lora-paths lora-scales lora-style init-image-path image-path image-strength image-outpaint-padding
controlnet-image-path controlnet-strength controlnet-save-canny metadata low-ram mlx-cache-limit-gb
stepwise-image-output-dir vae-tiling-split config-from-metadata stylize chaos iw style niji weird repeat stop sref
cref sw cw plms dpm-solver klms ddim fixed-code laion400m n-rows C from-file config skip-grid skip-save ddim-eta api
listen share port medvram-sdxl no-gradio-queue disable-nan-check upcast-sampling autolaunch theme skip-torch-cuda-test
"""  # flags of A1111, its API and Forge, ComfyUI, InvokeAI, Fooocus, diffusers, stable-diffusion.cpp, mflux, Midjourney


def test_the_advice_names_flags_that_are_there() -> None:
    commands = app_command().commands.values()
    own = {flag for command in commands for one in command.params for flag in one.opts} | {"--debug"}
    assert {flag for text in ADVICE.values() for flag in re.findall(r"(?<!\S)--?[a-zA-Z-]+", text)} <= own


def test_flags_of_other_tools_are_accepted_or_answered() -> None:
    accepted = {word for row in options_of("generate") for word in row.words} | other_words("generate").keys()
    accepted |= {flag.lstrip("-") for one in app_command().commands["generate"].params for flag in one.opts}
    theirs = re.findall(r"\S+", THEIRS)
    assert [name for name in theirs if not accepted & {name, name.lower()} and not advice(name)] == []


def test_none_of_them_is_a_flag() -> None:
    own = {word for row in options_of("generate") for word in row.words} | other_words("generate").keys()
    assert not own & ADVICE.keys()
    assert advice("--steps") == ""


@pytest.mark.parametrize("typed", ["--hires-fix", "--hires_fix", "--enable_hr"])
def test_the_error_says_what_to_use(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "a lake", typed]) == 2
    assert "--upscale-strength" in capsys.readouterr().err
