"""A stand-in for the torch module of machines with GPUs, for the questions that are asked before any work."""

from types import SimpleNamespace
from typing import Any


class StandInTorch:
    """Answers as torch.cuda and torch.backends.mps do, for cards that are named: (name, major, minor capability).

    reserved: bytes that this process holds on every card; what is free has them taken off
    """

    __version__ = "2.13.0"

    def __init__(
        self,
        *cards: tuple[str, int, int],
        cuda: str | None = "12.8",
        hip: str | None = None,
        mps: bool = False,
        archs: str = "sm_80",
        processors: int = 100,
        fused: tuple[str, ...] = ("float32", "float16", "bfloat16"),
    ) -> None:
        self.version = SimpleNamespace(cuda=cuda, hip=hip)
        asked = SimpleNamespace(
            SDPAParams=lambda query, *_: query,
            can_use_flash_attention=lambda dtype: dtype in fused,
            can_use_efficient_attention=lambda dtype: False,
        )
        self.float32, self.float16, self.bfloat16 = "float32", "float16", "bfloat16"
        self.empty = lambda *shape, dtype, device: dtype
        self.backends = SimpleNamespace(cuda=asked, mps=SimpleNamespace(is_available=lambda: mps, is_built=lambda: mps))
        self.mps = SimpleNamespace(recommended_max_memory=lambda: 16 * 10**9, driver_allocated_memory=lambda: 10**9)
        self.reserved = self.taken = 0
        self.cuda: Any = SimpleNamespace(
            is_available=lambda: bool(cards),
            device_count=lambda: len(cards),
            mem_get_info=lambda index: (10**9 * (index + 1) - self.reserved - self.taken, 8 * 10**9),
            memory_reserved=lambda index: self.reserved,
            get_device_name=lambda index: cards[index][0],
            get_device_capability=lambda index: cards[index][1:],
            get_device_properties=lambda index: SimpleNamespace(multi_processor_count=processors),
            get_arch_list=archs.split,
        )
