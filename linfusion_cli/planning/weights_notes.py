"""Notes on weights that are used, and that their owner may take for something else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from linfusion_cli.config.job import Job
from linfusion_cli.config.presets import FAMILY_VAE
from linfusion_cli.config.weighted_lora import HEAVIEST, lora_text
from linfusion_cli.errors import Message, option
from linfusion_cli.planning.job_weights import JobWeights
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.families import FAMILY_ROWS
from linfusion_cli.weights.lora_config import unread_alpha
from linfusion_cli.weights.lora_layer_names import trains_text
from linfusion_cli.weights.single_file_layouts import prefixes
from linfusion_cli.weights.t2i_adapter import is_t2i_adapter
from linfusion_cli.weights.weight_file import WeightFile


def weights_notes(job: Job, weights: JobWeights) -> tuple[Message, ...]:
    """A note for each file that is used although nobody names it, or that may mean something else than it does."""
    return (
        *_of_the_vae(job, weights.model),
        *_of_the_loras(weights),
        *_of_the_embeddings(weights),
        *_of_the_t2i_adapters(job, weights),
    )


def _of_the_vae(job: Job, own: WeightFile) -> tuple[Message, ...]:
    model = job.settings.model
    if job.sources["model.vae"] != FAMILY_VAE:
        return ()
    what = f"{model.vae} is used, the usual one of {FAMILY_ROWS[model.family].full_name}"
    name = Path(model.repositories[0]).name
    some = any(tensor.startswith(prefixes("vae")) for tensor in own.tensors)
    lacks = "only a part of an autoencoder" if some else "no autoencoder"
    return (Message(f"{name} holds {lacks}: {what}. Another: ", option("vae", "LOCATION")),)


def _of_the_loras(weights: JobWeights) -> Iterator[Message]:
    for lora, file in weights.named_loras:
        if lora.stages and file.path is not None and trains_text(file.header.tensors):
            read = "prompts are read once, for all stages: its part for the text encoders "
            acts = "is left out" if lora.stages == "upscale" else "acts in all of them"
            yield Message(f"{Path(lora.location).name}: {read}{acts}")
        found = unread_alpha(file.header) if file.path is not None else None
        if found is None:
            continue
        what = f"its header says {found.key} {shown(found.value, 20)}, a layer has the rank {found.rank}"
        acts = "it acts at full strength, as in ComfyUI, A1111 and diffusers"
        text = f"{Path(lora.location).name}: {what}, and no tensor holds an alpha: {acts}"
        scaled = [found.scale * weight for weight in (lora.weight, lora.text_weight)] if found.scale else []
        if not scaled or max(map(abs, scaled)) > HEAVIEST:
            yield Message(text)
            continue
        location = lora_text(lora.location, scaled, lora.stages)
        yield Message(f"{text}. By alpha / rank it would be ", option("lora", location))


def _of_the_embeddings(weights: JobWeights) -> Iterator[Message]:
    """A1111 counts the vectors of clip_g alone; diffusers and ComfyUI read each tensor whole."""
    for file in weights.inversions:
        tensors = file.header.tensors if file.path is not None else {}
        counts = {name: info.shape[0] if len(info.shape) > 1 else 1 for name, info in tensors.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{count} in {name}" for name, count in sorted(counts.items()))
            acts = "each text encoder reads its own, as in diffusers and ComfyUI, not as in A1111"
            yield Message(f"{Path(file.locations[0]).name}: not the same number of vectors in both ({listed}): {acts}")


def _of_the_t2i_adapters(job: Job, weights: JobWeights) -> Iterator[Message]:
    """Those published are for 1.x and XL, and nothing in one of 1.x tells it from one that is for 2.x."""
    published = FAMILY_ROWS[job.settings.model.family].t2i_adapters
    for file in () if published else weights.controlnets:
        if file.path is not None and is_t2i_adapter(file.path, file.headers):
            yield Message(
                f"{Path(file.locations[0]).name}: nothing in a T2I-Adapter tells Stable Diffusion 1.x from 2.x, and "
                "those published are for 1.x and XL: made for 1.x, it guides this model weakly or wrongly"
            )
