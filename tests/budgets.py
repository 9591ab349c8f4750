"""Compares what an engine's store held with what the plan counted."""

from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.planning.memory_budget import CostCounter, per_tier


def same_budget(store: ActivationStore, counter: CostCounter) -> None:
    assert store.usage.peak_bytes == counter.peak_bytes
    assert store.usage.held_bytes == per_tier(), "everything has been given back"


def same_budget_and_buffers(store: ActivationStore, counter: CostCounter) -> None:
    """What waits, to the byte; the buffers of copies are no more than was planned, and not much less."""
    same_budget(store, counter)
    assert store.prefetcher is not None
    assert counter.buffer_bytes["device"] / 4 <= store.prefetcher.peak_bytes <= counter.buffer_bytes["device"]
