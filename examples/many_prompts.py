"""A loop over prompts, with progress. A call that is interrupted goes on where it was when it is made again.

python examples/many_prompts.py FOLDER 512x384 "a mountain lake" "a forest at night"
"""

import sys
from pathlib import Path

import linfusion_cli
from linfusion_cli.events import Event, PhaseFinished


def show(event: Event) -> None:
    """One line for every phase that is done."""
    if isinstance(event, PhaseFinished):
        print(f"  {event.name} of stage {event.stage}: {event.seconds:.1f} s, {event.peak_bytes / 1e6:.0f} MB")


def main(folder: Path, size: str, prompts: list[str]) -> list[Path]:
    """Makes one image for each prompt; images that are there already are left alone."""
    paths = []
    for number, prompt in enumerate(prompts):
        path = folder / f"{number:03}.png"
        if not path.exists():
            print(prompt)
            linfusion_cli.generate(prompt, size=size, seed=number, output=path, on_event=show)
        paths.append(path)
    return paths


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
