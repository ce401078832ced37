"""`python -m flexinfer.local.controlplane [--with-helm]`: make sure that the programs of a control plane are on this machine."""

import os
import sys
from collections.abc import Sequence

from flexinfer.local.controlplane.programs import HELM, locate
from localkube.controlplane import catalogue
from localkube.controlplane.programs import ProgramError


def main(words: Sequence[str]) -> int:
    """Find or build all; returns the exit code."""
    wanted = [*catalogue.CONTROL_PLANE, *([HELM] if "--with-helm" in words else [])]
    try:
        locate(wanted, os.environ, lambda line: print(line, flush=True))
    except ProgramError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
