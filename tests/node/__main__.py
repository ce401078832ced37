"""`python -m tests.node programs|up|down|status|run`: a real cluster of one node, for tests and development."""

import argparse
import os
import sys
import time
from typing import NoReturn

from localkube.controlplane.programs import ProgramError
from tests.node import network, processes, programs, tilt
from tests.node.cluster import Cluster
from tests.node.images import ImageError
from tests.node.layout import FIRST, layout
from tests.node.programs import MissingError


def main() -> None:
    """Run the command of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.node", description=__doc__)
    parser.add_argument("command", choices=("programs", "up", "down", "status", "run"))
    parser.add_argument(
        "words", nargs=argparse.REMAINDER, help="for run: the command to run in the cluster's network"
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("node: namespaces, mounts and control groups need root")
    cluster = Cluster(layout(), report)
    try:
        if options.command == "run":
            run(cluster, options.words or [os.environ.get("SHELL", "sh")])
        {"programs": build, "up": up, "down": down, "status": status}[options.command](cluster)
    except (MissingError, ImageError, ProgramError, AssertionError) as error:
        sys.exit(f"node: {error}")


def build(cluster: Cluster) -> None:
    """Find or build every program that the tests need, including Tilt, and report the progress."""
    programs.everything(os.environ, report)
    tilt.locate(os.environ, report)


def up(cluster: Cluster) -> None:
    """Start the cluster and print how to reach it."""
    began = time.monotonic()
    cluster.up()
    report(f"up after {time.monotonic() - began:.1f} s; to reach it:")
    print("  .venv/bin/python -m tests.node run            a shell in its network, with its kubeconfig")
    print("  .venv/bin/python -m tests.node run COMMAND")


def down(cluster: Cluster) -> None:
    """Stop the cluster and delete its files."""
    cluster.down()
    report("nothing is left")


def run(cluster: Cluster, words: list[str]) -> NoReturn:
    """Replace this process by a command in the cluster's network, with its kubeconfig."""
    environment = {**os.environ, "KUBECONFIG": str(cluster.layout.kubeconfig())}
    if not network.exists(FIRST):
        sys.exit("node: there is no cluster: make node-up")
    command = (*network.command(FIRST), *words)
    os.execvpe(command[0], command, environment)  # noqa: S606 -- no shell is needed


def status(cluster: Cluster) -> None:
    """Print which processes run, and the nodes and Pods."""
    for path in sorted((cluster.layout.root / "pid").glob("*")):
        report(f"{path.name:<24} {'runs' if processes.running(cluster.layout, path.name) else 'has ended'}")
    if cluster.answers():
        print(cluster.kubectl("get", "nodes,pods", "--all-namespaces", "-o", "wide"))


def report(line: str) -> None:
    """Print a line."""
    print(f"node: {line}", flush=True)


if __name__ == "__main__":
    main()
