"""`python -m flexinfer.local.controlplane [--with-helm]`: find or build the programs of a control plane."""

import argparse
import os
import sys
from collections.abc import Sequence

from flexinfer.local.controlplane.programs import HELM, locate
from localkube.controlplane import catalogue
from localkube.controlplane.programs import ProgramError


def main(words: Sequence[str]) -> int:
    """Find or build all programs; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flexinfer.local.controlplane",
        description="Find the programs of a control plane, or build those that are missing, with Go.",
    )
    parser.add_argument("--with-helm", action="store_true", help="Helm too, which the tests need")
    options = parser.parse_args(words)
    sources = [*catalogue.CONTROL_PLANE, *([HELM] if options.with_helm else [])]
    try:
        locate(sources, os.environ, lambda line: print(line, flush=True))
    except ProgramError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
