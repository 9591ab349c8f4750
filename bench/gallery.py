"""Makes the images of docs/images: a contact sheet of 24 prompts at base size, and four 4K images with details.

    python bench/gallery.py [--work FOLDER] [--size WxH] [--sheet-only]

Resumes where it stopped: images that are in --work are not made again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[1]
SHEET = (6, 4)  # columns, rows
TILE_PX, CAPTION_PX = 256, 34
WIDTH_PX = 1260
DETAIL_PX = 420
# Prompt, seed, and the centres of three details (as fractions of width and height).
LARGE = {
    "dusk": ("purple mountains at dusk, full moon, by a lake", 12, ((0.72, 0.38), (0.43, 0.27), (0.35, 0.92))),
    "forest": ("green forest at dawn, sun, in fog", 7, ((0.3, 0.6), (0.75, 0.35), (0.8, 0.55))),
    "islands": ("teal islands at sunset, sun", 3, ((0.38, 0.17), (0.68, 0.72), (0.35, 0.75))),
    "night": ("blue mountains at night, snowy, starry sky, moon", 5, ((0.3, 0.2), (0.5, 0.55), (0.8, 0.7))),
}


def generate(prompt: str, seed: int, size: str, output: Path) -> None:
    """Makes one image with the command line, unless it exists."""
    if not output.exists():
        words = [
            sys.executable,
            "-m",
            "linfusion_cli",
            "generate",
            prompt,
            "--seed",
            str(seed),
            "--size",
            size,
            "--quiet",
            "--output",
            str(output),
        ]
        subprocess.run(words, check=True)
    print(output, flush=True)


def contact_sheet(work: Path, target: Path) -> None:
    """The first 24 of the evaluation's fixed prompts, each image with its prompt below it."""
    from linfusion_cli.evaluate.attributes import fixed_prompts
    from linfusion_cli.evaluate.samples import Maker, Way, image_path, keep
    from linfusion_cli.geometry import Size
    from linfusion_cli.system.device import find_machine

    columns, rows = SHEET
    prompts = [asked.prompt for asked in fixed_prompts(columns * rows, seed=24)]
    maker = Maker("landscape", Way(), find_machine())
    for _ in keep(
        work / "sheet", maker, prompts, list(range(len(prompts))), Size(maker.train_size_px, maker.train_size_px)
    ):
        pass
    sheet = Image.new("RGB", (columns * TILE_PX, rows * (TILE_PX + CAPTION_PX)), "white")
    pen = ImageDraw.Draw(sheet)
    for index, prompt in enumerate(prompts):
        left, top = index % columns * TILE_PX, index // columns * (TILE_PX + CAPTION_PX)
        with Image.open(image_path(work / "sheet", index)) as image:
            sheet.paste(image.resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS), (left, top))
        pen.multiline_text((left + 4, top + TILE_PX + 3), wrapped(prompt, 42), fill="black", font_size=11)
    sheet.save(target, quality=88)
    print(target, flush=True)


def wrapped(text: str, letters: int) -> str:
    """The text in two lines at most."""
    if len(text) <= letters:
        return text
    cut = text.rfind(" ", 0, letters)
    return f"{text[:cut]}\n{text[cut + 1 :]}"


def with_details(file: Path, centres: tuple[tuple[float, float], ...], target: Path) -> None:
    """A reduced image, and three squares of it at full resolution below."""
    with Image.open(file) as image:
        height = round(image.height * WIDTH_PX / image.width)
        page = Image.new("RGB", (WIDTH_PX, height + DETAIL_PX), "white")
        page.paste(image.resize((WIDTH_PX, height), Image.Resampling.LANCZOS), (0, 0))
        side = min(DETAIL_PX, image.width, image.height)
        for index, (x, y) in enumerate(centres):
            left, top = (
                round(min(max(part * whole - side / 2, 0), whole - side))
                for part, whole in ((x, image.width), (y, image.height))
            )
            page.paste(image.crop((left, top, left + side, top + side)), (index * DETAIL_PX, height))
    page.save(target, quality=88)
    print(target, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "gallery", help="where the images are kept")
    parser.add_argument("--target", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--size", default="3840x2160")
    parser.add_argument("--sheet-only", action="store_true")
    chosen = parser.parse_args()
    for folder in (chosen.work, chosen.target):
        folder.mkdir(parents=True, exist_ok=True)
    contact_sheet(chosen.work, chosen.target / "sheet.jpg")
    if not chosen.sheet_only:
        for name, (prompt, seed, centres) in LARGE.items():
            generate(prompt, seed, chosen.size, chosen.work / f"{name}-{chosen.size}.png")
            with_details(chosen.work / f"{name}-{chosen.size}.png", centres, chosen.target / f"{name}.jpg")


if __name__ == "__main__":
    main()
