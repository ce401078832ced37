"""`python -m flexinfer.local.kubernetes`: make sure that the programs of a control plane are on this machine; the first time builds them."""

import os
import sys

from flexinfer.local.kubernetes import catalogue, programs


def main() -> int:
    """Find or build all; returns the exit code."""
    try:
        programs.locate(catalogue.CONTROL_PLANE, os.environ, lambda line: print(line, flush=True))
    except programs.ProgramError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
