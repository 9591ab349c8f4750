"""The machine: its devices, their memory and speed, signals, the garbage collector."""
