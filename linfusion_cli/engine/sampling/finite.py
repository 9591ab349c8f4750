"""Results that are no numbers (NaN, infinity): found after each step and band, computed once more where that helps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from linfusion_cli.engine.memory.dtypes import DTYPES
from linfusion_cli.engine.sampling.denoiser import Conditioning, Denoiser
from linfusion_cli.errors import NotFiniteError, option
from linfusion_cli.events import Note, Notify
from linfusion_cli.planning.render_plan import RenderPlan


def is_finite(values: Tensor) -> bool:
    """Whether every value is a number, by one reduction: a NaN or an infinity makes the sum one for good.

    A sum that overflows although all values are finite is looked at again, value by value.
    """
    if not values.is_floating_point() or bool(torch.isfinite(values.sum())):
        return True
    return bool(torch.isfinite(values).all())


def require_finite(values: Tensor, what: str, dtype: str, modules: Iterable[nn.Module]) -> None:
    """Raises NotFiniteError that says `what` was computed in the number format `dtype`, and what to try.

    modules: the networks that computed it; a tensor of theirs that holds NaN is named
    """
    if is_finite(values):
        return
    problem = f"{what}, in {dtype}: the result holds NaN or infinity, so no image can be made of it. "
    if damaged := damaged_tensor(modules):
        raise NotFiniteError(
            f"{problem}The weights are damaged: {damaged} holds values that are not numbers. `linfusion fetch` checks "
            "downloaded files; get others from their author"
        )
    if dtype == "float16":
        raise NotFiniteError(
            f"{problem}float16 ends at 65504; use ", option("dtype", "bfloat16"), " or ", option("dtype", "float32")
        )
    raise NotFiniteError(
        f"{problem}Try without LoRA and ControlNet or with a lower scale, a lower ", option("guidance_scale", 5),
        ", or another ", option("scheduler", "ddim"),
    )  # fmt: skip


def require_finite_conditioning(conditioning: Conditioning, dtype: str, modules: Iterable[nn.Module]) -> None:
    """The same for the encoded prompt and negative prompt."""
    for half, what in zip(conditioning.halves, ("the encoded prompt", "the encoded negative prompt"), strict=True):
        for tensor in half:
            require_finite(tensor, what, dtype, modules)


def damaged_tensor(modules: Iterable[nn.Module]) -> str:
    """ "conv_in.weight of UNet2DConditionModel": the first weight that holds no number; "" if all do."""
    for module in modules:
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if value.device.type != "meta" and value.is_floating_point() and not is_finite(value.detach().float()):
                return f"{name} of {type(module).__name__}"
    return ""


@dataclass(slots=True)
class RecomputingDenoiser:
    """A denoiser in float16 whose prediction is computed once more in `wider` where it holds NaN or infinity.

    If that holds some, too, it is returned as it is: the check after the step names it.
    """

    denoiser: Denoiser
    modules: tuple[nn.Module, ...]
    wider: torch.dtype
    tell: Callable[[str], None]

    def __call__(self, latents: Tensor, timestep: Tensor, dilation: int = 1) -> Tensor:
        """See Denoiser."""
        prediction = self.denoiser(latents, timestep, dilation)
        if is_finite(prediction):
            return prediction
        name = str(self.wider).removeprefix("torch.")
        self.tell(f"timestep {float(timestep):g} overflows in float16: it is computed once more in {name}")
        with converted(self.modules, self.wider):
            return converted_denoiser(self.denoiser, self.wider)(latents, timestep, dilation)


def recomputing(
    denoiser: Denoiser, modules: tuple[nn.Module, ...], plan: RenderPlan, notify: Notify
) -> Denoiser | RecomputingDenoiser:
    """The denoiser, which computes again what overflows if that can help and the plan has room for it."""
    wider = wider_dtype(plan, sum(weight_bytes(module) for module in modules))
    if wider is None or denoiser.controls:  # a ControlNet's embedded image stays in float16
        return denoiser
    return RecomputingDenoiser(denoiser, modules, wider, lambda text: notify(Note(text=text)))


def wider_dtype(plan: RenderPlan, weights_bytes: int) -> torch.dtype | None:
    """The number format for a second try at a step in float16: what fits beside the plan's peak, float32 first.

    In float32 the weights are there a second time in twice the size, and activations double. In bfloat16 they are there
    a second time. None where the plan is in another format, keeps weights off the device, or has no room.
    """
    if DTYPES[plan.dtype] != torch.float16 or not plan.weights_resident:
        return None
    room = (plan.budget_bytes or plan.machine.free_bytes) - plan.peak_bytes
    if room >= plan.peak_bytes + weights_bytes:
        return torch.float32
    return torch.bfloat16 if room >= weights_bytes else None


def weight_bytes(module: nn.Module) -> int:
    """Bytes of a network's weights."""
    return sum(value.numel() * value.element_size() for value in module.parameters())


@contextmanager
def converted(modules: Iterable[nn.Module], dtype: torch.dtype) -> Iterator[None]:
    """Inside, the float16 weights of the modules are in another format; afterwards they are those from before."""
    kept = [
        (value, value.data)
        for module in modules
        for value in [*module.parameters(), *module.buffers()]
        if value.dtype == torch.float16
    ]
    try:
        for value, data in kept:
            value.data = data.to(dtype)
        yield
    finally:
        for value, data in kept:
            value.data = data


def converted_denoiser(denoiser: Denoiser, dtype: torch.dtype) -> Denoiser:
    """The denoiser with its text in another format, which decides the format of the pass."""
    text = denoiser.conditioning
    return replace(
        denoiser,
        conditioning=Conditioning(
            *(
                tensor.to(dtype) if tensor.is_floating_point() else tensor
                for tensor in (
                    text.embeddings,
                    text.negative_embeddings,
                    text.pooled,
                    text.negative_pooled,
                    text.images,
                    text.negative_images,
                )
            )
        ),
    )
