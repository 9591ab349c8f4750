"""The shell command: help, printing and exit codes. Nothing else knows Typer or rich."""
