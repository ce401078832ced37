"""`flexinfer check`: whether a cluster, or the instance of this machine, has what a Model needs; what is missing, with the remedy.

It reads and writes nothing. Exit status 1: something that a Model needs is missing.
"""

import argparse
import asyncio
from collections.abc import Iterator, Sequence

from flexinfer.cli import reach
from flexinfer.cli.preflight import checks, read
from flexinfer.cli.preflight.view import MISSING, OK, UNKNOWN, WARNING, Finding
from flexinfer.cli.target import context_of, kubeconfig, target_arguments
from flexinfer.cli.terminal import print_json

_MARKS = {OK: "ok", WARNING: "warning", MISSING: "MISSING", UNKNOWN: "unknown"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the namespace of Models, the output format, and where the API server is."""
    parser.add_argument(
        "-n", "--namespace", default="default", help="where Models are to be (default: default)"
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="output format")
    target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print what each check says; returns 1 if something that a Model needs is missing. Raises ApiError, InstanceError."""
    findings = asyncio.run(_findings(options))
    if options.output == "json":
        print_json(findings)
    else:
        print("\n".join(table(findings)))
    return 1 if checks.failed(findings) else 0


async def _findings(options: argparse.Namespace) -> list[Finding]:
    own = None if context_of(options) else read.instance_of(kubeconfig(options))
    async with reach.api(options) as api:
        return checks.findings(await read.view(api, options.namespace, own))


def table(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield the findings as lines, each with its remedy below, and a last line that counts."""
    names = max(len(finding.check) for finding in findings)
    marks = max(len(mark) for mark in _MARKS.values())
    for finding in findings:
        yield f"{finding.check:<{names}}  {_MARKS[finding.status]:<{marks}}  {finding.message}"
        if finding.remedy:
            yield f"{'':<{names}}  {'':<{marks}}  -> {finding.remedy}"
    missing = sum(finding.status == MISSING for finding in findings)
    yield ""
    yield f"{missing} missing" if missing else "nothing that a Model needs is missing"
