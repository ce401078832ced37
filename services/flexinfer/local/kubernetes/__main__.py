"""`python -m flexinfer.local.kubernetes [--with-helm]`: make sure that the programs of a control plane are on this machine, building them if need be."""

import os
import sys
from collections.abc import Sequence

from flexinfer.local.kubernetes import catalogue, programs


def main(words: Sequence[str]) -> int:
    """Find or build all; returns the exit code."""
    wanted = [*catalogue.CONTROL_PLANE, *([catalogue.HELM] if "--with-helm" in words else [])]
    try:
        programs.locate(wanted, os.environ, lambda line: print(line, flush=True))
    except programs.ProgramError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
