"""`python -m infield ...`, the command `infield`."""

from __future__ import annotations

import sys

from infield.pipelines.cli import main

if __name__ == "__main__":
    sys.exit(main())
