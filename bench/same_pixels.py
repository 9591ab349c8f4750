"""Checks that a change leaves every image as it was: renders sixteen small images and hashes the pixels of each.

    python bench/same_pixels.py FOLDER                          prints the hashes as JSON
    python bench/same_pixels.py FOLDER --against before.json    also exits with 1 if a hash differs

FOLDER holds the tiny random models; they are made if it does not exist. Hashes hold for one machine and one version of
torch: make them with the commit before a change, then with the change, both with the same FOLDER. `make same-pixels`
runs it.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = ("sd15", "sd21", "sdxl")


def make_models(folder: Path) -> None:
    """Tiny random models of every family, with a LoRA, a ControlNet and an IP-Adapter for each, and one photo."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from families import loaded_pipeline, make_family
    from tiny_adapters import save_controlnet, save_ip_adapter, save_loras

    for name in FAMILIES:
        family = make_family(name, folder / name)
        family_preset = Path(family.preset())
        family_preset.rename(folder / f"{name}.toml")
        pipeline = loaded_pipeline(family)
        extras = folder / f"{name}-extras"
        extras.mkdir()
        save_loras(pipeline, extras)
        save_controlnet(pipeline, extras / "controlnet")
        save_ip_adapter(pipeline, extras)
    noise = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((160, 96)).save(folder / "photo.png")


def cases(folder: Path) -> dict[str, list[str]]:
    """The arguments of each image, by name."""
    photo = str(folder / "photo.png")

    def tiny(family: str, *more: str, size: str = "128x96") -> list[str]:
        return ["generate", "a lake", "--preset", str(folder / f"{family}.toml"), "--size", size, *more]

    lora = str(folder / "sd15-extras" / "kohya.safetensors:0.7")
    control = ["--controlnet", str(folder / "sdxl-extras" / "controlnet"), "--control-image", photo]
    adapter = ["--ip-adapter", str(folder / "sd15-extras" / "ip-adapter.safetensors"), "--ip-image", photo]
    return {
        "builtin-256": ["generate", "a lake at dusk, full moon", "--size", "256x256"],
        "builtin-stages": ["generate", "snowy mountains at night", "--size", "768x512"],
        "builtin-bands": ["generate", "snowy mountains at night", "--size", "1024x768", "--max-memory", "640MB"],
        "builtin-upscale": ["upscale", photo, "a forest", "--size", "512x304"],
        "builtin-bfloat16": ["generate", "a forest", "--size", "256x192", "--dtype", "bfloat16"],
        "sd15-folder": tiny("sd15"),
        "sd15-file": tiny("sd15", "--model", str(folder / "sd15" / "model.safetensors")),
        "sd15-softmax": tiny("sd15", "--linfusion", "none"),
        "sd15-init": tiny("sd15", "--init-image", photo, "--strength", "0.6"),
        "sd15-lora": tiny("sd15", "--lora", lora, "--prompt-weights"),
        "sd15-ip-adapter": tiny("sd15", *adapter, "--scheduler", "euler_ancestral"),
        "sd21-folder": tiny("sd21", "--scheduler", "dpmpp_2m"),
        "sd21-clip-skip": tiny("sd21", "--clip-skip", "1", "--negative", "fog"),
        "sdxl-stages": tiny("sdxl", size="256x256"),
        "sdxl-controlnet": tiny("sdxl", *control),
        "sdxl-lora": tiny(
            "sdxl", "--lora", str(folder / "sdxl-extras" / "diffusers.safetensors"), "--keep-projections"
        ),
    }


def pixels_hash(arguments: list[str], threads: int) -> str:
    """Renders an image in a process of its own; the SHA-256 of its pixels."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "image.png"
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": str(threads),
            "XDG_CACHE_HOME": scratch,
        }
        command = [sys.executable, "-m", "linfusion_cli", *arguments, "--seed", "5", "--output", str(out), "--quiet"]
        done = subprocess.run(command, env=environment, cwd=scratch, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"exit {done.returncode}: {done.stderr.strip()[-400:]}"
        with Image.open(out) as image:
            return hashlib.sha256(np.asarray(image).tobytes()).hexdigest()


def main() -> int:
    """Prints the hashes. Returns 1 if a render failed or a hash differs from the expected one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--against", type=Path, help="a file with the expected hashes")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    folder = options.folder.resolve()
    if not folder.exists():
        folder.mkdir(parents=True)
        make_models(folder)
    expected = json.loads(options.against.read_text()) if options.against else {}
    found: dict[str, str] = {}
    for name, arguments in cases(folder).items():
        for threads in options.threads:
            key = f"{name}, {threads} threads"
            found[key] = pixels_hash(arguments, threads)
            if expected and expected.get(key) != found[key]:
                print(f"{key}: {found[key]}, before: {expected.get(key)}", file=sys.stderr)
    print(json.dumps(found, indent=2))
    failed = any(value.startswith("exit ") for value in found.values())
    return int(failed or (bool(expected) and expected != found))


if __name__ == "__main__":
    sys.exit(main())
