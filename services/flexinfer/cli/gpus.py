"""`flexinfer gpus`: the devices, who holds their memory, and why one is missing."""

import argparse

import msgspec

from flexinfer.agent import look


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add --here and -o."""
    parser.add_argument(
        "--here",
        action="store_true",
        required=True,
        help="what the agent's readers see on this machine; needs neither an instance nor a cluster",
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="output format")


def run(options: argparse.Namespace) -> int:
    """Print the devices; a machine without one is no failure."""
    return here(as_json=options.output == "json")


def here(*, as_json: bool) -> int:
    """Print what is seen on this machine."""
    seen = look.here()
    print(msgspec.json.format(msgspec.json.encode(seen)).decode() if as_json else "\n".join(look.lines(seen)))
    return 0
