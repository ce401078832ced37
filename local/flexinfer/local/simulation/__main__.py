"""`python -m flexinfer.local.simulation`: the driver of the simulated cards of one instance, until SIGTERM."""

import argparse
import asyncio
import contextlib
import logging
from pathlib import Path

from flexinfer.local import instance as instances
from flexinfer.local.simulation.driver import drive


def boot() -> None:
    """Drive the cards of the instance of a state folder."""
    parser = argparse.ArgumentParser(prog="python -m flexinfer.local.simulation", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="state folder of the instance")
    parser.add_argument("--port-file", default="", help="file to write the port of /readyz to")
    flags = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(drive(instances.load(flags.state), flags.port_file))


if __name__ == "__main__":
    boot()
