"""docs/families.md, made from the tests: which kinds of files and options each family uses, and which it refuses.

A test says what it shows by its marks: `@pytest.mark.covers(KIND, OUTCOME, families=("sd15", "sdxl"))`, without
`families` for all of them. KIND is a row of KINDS. `python tests/covered_kinds.py` writes the page; `make reference`
does it too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "families.md"
ALL = ("sd15", "sd21", "sdxl")
BEGIN, END = "<!-- made from the marks of the tests by: make reference -->", "<!-- end -->"
NOT_TESTED, NONE = "not tested", "-"
# A row of the page -> the families that have such files: the others' cells have a dash.
OPTIONS = {
    "`--model`: hub repository or folder in diffusers layout": ALL,
    "`--model`: one `.safetensors` file in the original layout": ALL,
    "`--attention softmax`: the image of plain diffusers": ALL,
    "softmax at the first stage, linear after (`--base-attention`)": ALL,
    "LinFusion weights (linear attention)": ALL,
    "`--keep-projections` for fine-tunes": ALL,
    "`--lora`, in kohya's and diffusers' layouts": ALL,
    "`--controlnet`, one or several": ALL,
    "`--ip-adapter`": ALL,
    "`--textual-inversion`": ALL,
    "`--clip-skip`": ALL,
    "`--prompt-weights`": ALL,
    "`--init-image`": ALL,
    "`upscale`": ALL,
    "`--ranks`, `--devices`: one image by several processes": ALL,
}
FILES = {
    "model folder: fp16 variants, shards, one variant alone": ALL,
    "`force_zeros_for_empty_prompt` of `model_index.json`": ("sdxl",),
    "other settings and components of `model_index.json`": ALL,
    "settings of UNet, autoencoder, ControlNet, text encoders, scheduler that are not known": ALL,
    "tensors of a single file that are no part of the model": ALL,
    "tensors of a single file that no image depends on": ALL,
    "`modelspec.predict_key`, `modelspec.prediction_type`, `v_pred`, `ztsnr`": ALL,
    "SD-Turbo in one file": ("sd21",),
    "SSD-1B and Segmind-Vega, folder and one file": ("sdxl",),
    "KOALA-700M and other UNets without a middle block": ("sdxl",),
    "another UNet (`--unet`): folder, model folder, one file of three layouts": ALL,
    "a UNet as the model; a UNet of another model": ALL,
    "latent consistency models (`time_cond_proj_dim`), folder and files": ALL,
    "a latent consistency model as the teacher of `distill`": ALL,
    "few-step recipes: Euler and DDIM with trailing timesteps, TCD": ALL,
    "few-step LoRAs by their recipes: LCM, DMD2, Lightning, Hyper-SD": ALL,
    "few-step models and LoRAs with other settings": ALL,
    "Playground 2.5, CosXL, EDM and flow schedules": ALL,
    "GGUF, web pages, Git LFS pointers": ALL,
    "weights in fewer bits with scales beside them (scaled fp8, bitsandbytes)": ALL,
    "LoRAs for Stable Diffusion 3, Flux and Cascade; OFT, BOFT, GLoRA, VeRA": ALL,
    "SD-XL refiner, inpainting and depth models, Stable Diffusion 3, Flux": ALL,
    "ControlNet folder, colours as RGB or BGR": ALL,
    "ControlNet in one file, original layout with and without prefix": ALL,
    "ControlNet-union and promax, folder and one file": ("sdxl",),
    "ControlNet shuffle (global pooling), folder and one file": ALL,
    "ControlNet-LLLite, control-LoRA": ALL,
    "T2I-Adapter (full, light, XL), folder and one file, also in its original names": ALL,
    "T2I-Adapter of 1.x on 2.x, which nothing in its file tells apart": ("sd21",),
    "model without an autoencoder, file and folder: the usual one of its family": ALL,
    "autoencoder in one file (`--vae`), names of diffusers, original with and without prefix": ALL,
    "TAESD as the autoencoder": ALL,
    "textual inversion of A1111 and diffusers": ALL,
    "textual inversion with `clip_l` and `clip_g`": ALL,
    "textual inversion with another number of vectors in `clip_l` than in `clip_g`": ("sdxl",),
    "each setting of each config, with other values": ALL,
    "IP-Adapter, image encoder by its width": ("sd15", "sdxl"),
    "image encoder in one file (names of transformers or OpenCLIP; ViT-L, ViT-H, ViT-bigG)": ALL,
    "settings of an image encoder's config, each with other values": ("sd15",),
    "IP-Adapter FaceID": ALL,
    "LoRAs of peft and diffusers: ranks and alphas by layer, rsLoRA, biases, DoRA, all kinds of layers": ALL,
    "LoHa, LoKr, (IA)^3, full, norms, tucker, DoRA": ALL,
    "alpha in a LoRA's header alone (`ss_network_alpha`, `lora_alpha`, `alpha`)": ALL,
    "LoRAs that changed their model (PiSSA, OLoRA)": ALL,
    "NaN in a LoRA": ALL,
    "LoRA, ControlNet, IP-Adapter or LinFusion weights of another family": ALL,
    "`<lora:NAME:WEIGHT>` in the prompt, with a folder of models": ALL,
    "names of files in a folder of models (A1111, ComfyUI, flat)": ALL,
    "pickles (`.ckpt`, `.pt`, `.pth`, `.bin`)": ALL,
    "pickles, after `linfusion convert`": ALL,
    "links to huggingface.co": ALL,
    "folders of the hub's cache, folders without a model": ALL,
    "a model that lacks a part, a config, weights, or words of a tokenizer": ALL,
    "truncated files": ALL,
    "any config or header, mutated": ALL,
}
KINDS = OPTIONS | FILES
ORDER = (
    "used",
    "official",
    "equal",
    "equal, first stage",
    "changes",
    "bands",
    "as one",
    "ignored",
    "a note",
)  # in a cell


@dataclass(frozen=True, slots=True)
class Covered:
    """What one test shows of one kind. test: "tests/scenarios/test_families.py::test_lora"."""

    kind: str
    outcome: str  # "refused", or one or several of ORDER with commas between them
    families: tuple[str, ...]
    test: str


def covered(kind: str, outcome: str, families: tuple[str, ...] = ALL, test: str = "") -> Covered:
    """What a mark says. Raises ValueError for a kind, an outcome or a family that the page does not know."""
    known = {"refused", "used, or refused with its name", *ORDER}
    if kind not in KINDS:
        raise ValueError(f"{test}: no row of tests/covered_kinds.py: {kind!r}")
    if unknown := [one for one in ([outcome] if outcome in known else outcome.split(", ")) if one not in known]:
        raise ValueError(f"{test}: {unknown[0]!r} is none of {sorted(known)}")
    if not families or not set(families) <= set(KINDS[kind]) & set(ALL):
        raise ValueError(f"{test}: {families} are no families that have: {kind}")
    return Covered(kind, outcome, families, test)


def collected(root: Path = ROOT) -> Iterator[Covered]:
    """What every test under a root shows, in the order of the files and of the lines."""
    for path in sorted((root / "tests").rglob("test_*.py")):
        text = path.read_text()
        for node in ast.walk(ast.parse(text if "mark.covers" in text else "")):  # most have none
            for mark in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.covers":
                    test = f"{path.relative_to(root).as_posix()}::{node.name}"
                    given = [ast.literal_eval(argument) for argument in mark.args]
                    named = {str(one.arg): ast.literal_eval(one.value) for one in mark.keywords}
                    defaults = {"families": KINDS.get(str(given[0]), ALL)} | named
                    yield covered(*given, **defaults, test=test)


def rows(found: list[Covered]) -> dict[str, tuple[str, ...]]:
    """Kind -> the cells of 1.x, 2.x and XL, and the tests."""
    return {
        kind: (
            *(_cell([one for one in found if one.kind == kind], family) for family in ALL),
            ", ".join(dict.fromkeys(f"`{one.test}`" for one in found if one.kind == kind)),
        )
        for kind in KINDS
    }


def page(text: str, found: list[Covered]) -> str:
    """The text of the page with its two tables as the tests say."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    cells = rows(found)
    tables = [
        "\n".join(
            [
                f"| {name} | SD 1.x | SD 2.x | SD-XL | tests |",
                "|---|---|---|---|---|",
                *(f"| {' | '.join((kind, *cells[kind]))} |" for kind in kinds),
            ]
        )
        for name, kinds in (("option", OPTIONS), ("file", FILES))
    ]
    return f"{head}{BEGIN}\n\n{tables[0]}\n\n{tables[1]}\n\n{END}{tail}"


def _cell(found: list[Covered], family: str) -> str:
    """What the tests of a kind show of a family."""
    if found and family not in KINDS[found[0].kind]:
        return NONE
    outcomes = {one.outcome for one in found if family in one.families}
    if not outcomes:
        return NOT_TESTED
    if len(outcomes) == 1:
        return outcomes.pop()
    words = {word for outcome in outcomes for word in ([outcome] if outcome in ORDER else outcome.split(", "))}
    return ", ".join(sorted(words, key=lambda word: ORDER.index(word) if word in ORDER else len(ORDER)))


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), list(collected())), encoding="utf-8")
