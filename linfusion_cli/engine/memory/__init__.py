"""Where activations and weights wait, how they are copied, and how much memory a process holds."""
