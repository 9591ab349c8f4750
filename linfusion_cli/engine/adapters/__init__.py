"""What goes on and off a model, as exact inverses: LoRA, IP-Adapter, textual inversion."""
