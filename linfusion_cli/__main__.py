"""Lets `python -m linfusion_cli` do what `linfusion` does."""

from __future__ import annotations

import sys

from linfusion_cli.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
