"""The story of one image, from the words to its rows of pixels. Read this first."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from linfusion_cli.engine.components.model_cache import ModelCache
from linfusion_cli.engine.components.unet_and_vae import Components
from linfusion_cli.engine.distributed.ranks import Ranks
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.allocator import Relief, large_apart, limit_device
from linfusion_cli.engine.memory.meter import Meter
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.sampling.finite import require_finite_conditioning
from linfusion_cli.engine.sampling.latent_checkpoint import Checkpoints, Keeper, KeepNothing, fingerprint
from linfusion_cli.engine.stage import Rows, Run, StageImage
from linfusion_cli.events import Note, Notify
from linfusion_cli.planning.render_plan import RenderPlan

__all__ = ["Rows", "StageImage", "images"]


def images(
    plan: RenderPlan,
    notify: Notify,
    keeper: Keeper | None = None,
    model_cache: ModelCache | None = None,
    ranks: Ranks | None = None,
) -> Iterator[StageImage]:
    """Makes the plan's image stage by stage.

    Yields the image of each stage that exists in pixels (of all of them where stages are joined in pixels), the final
    one last. The rows of an image must be read, or left, before the next image is asked for. What `keeper` holds of an
    interrupted run is not made again, and such stages yield no image. `model_cache` keeps the components for the next
    image of a plan in which the text encoders stay. `ranks` are the processes that make the image together: each gets
    the same plan, and the rows of images come out of the first one. Raises WeightsError as loading does, and what
    Ranks.check raises.
    """
    for stage in _load(plan, notify, keeper, model_cache, ranks).stages():
        stage.start()
        stage.run()
        if (image := stage.image()) is not None:
            yield image


def _load(
    plan: RenderPlan, notify: Notify, keeper: Keeper | None, model_cache: ModelCache | None, ranks: Ranks | None
) -> Run:
    """Encodes the prompt, loads the components and moves them to the device; opens the checkpoints."""
    device = torch.device(plan.machine.device)
    limit_device(device, plan.budget_bytes, plan.machine.total_bytes)
    meter = Meter(device, notify)
    with large_apart(), meter.phase("load", 0, 1, "steps") as counter:
        conditioning, components = (model_cache or ModelCache()).take(plan, notify)
        signed = keeper is not None or ranks is not None
        about = plan.dtype, plan.machine.kind
        updates = components.mounted.waiting_updates
        made_with = fingerprint(components.modules, updates, conditioning, *about) if signed else ""
        if ranks is not None:
            ranks.check(plan, len(components.unet.config.block_out_channels), made_with)
        weights = Weights.on(device, resident=plan.weights_resident)
        components.move(weights)
        require_finite_conditioning(conditioning, plan.dtype, ())
        counter.reach(1)
    keeper, store = KeepNothing() if keeper is None else keeper, _store(plan, device, notify)
    store.fused = components.fused
    if ranks is not None:
        keeper, store = ranks.keeper(keeper), ranks.store(store)
    checkpoints = Checkpoints(keeper, made_with, device, notify, _shapes(plan, components))
    return Run(plan, components, weights, conditioning, meter, store, checkpoints, ranks)


def _shapes(plan: RenderPlan, components: Components) -> dict[int, tuple[int, ...]]:
    """The shape of each stage's latents."""
    channels = int(components.unet.config.in_channels)
    sizes = {stage.index: stage.canvas.latent() for stage in plan.stages}
    return {index: (1, channels, size.height, size.width) for index, size in sizes.items()}


def _store(plan: RenderPlan, device: torch.device, notify: Notify) -> ActivationStore:
    # Elsewhere than on a CPU the plan is one of the device's memory, and freed RAM need not go back to the system.
    relieve = Relief(plan.peak_bytes) if device.type == "cpu" else lambda: None
    return ActivationStore(device, plan.store_budget, lambda text: notify(Note(text=text)), relieve=relieve)
