"""The soak: every fault of docs/reliability.md, injected and counted."""
