"""`flexinfer lease take|give|list`: GPU memory of a shared group for something that FlexInfer does not run, such as a game.

It writes and reads GPULeases, as `kubectl` would; the arbiter decides.
"""

import argparse
import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence

from flexinfer.api.conditions import one_line
from flexinfer.api.durations import seconds
from flexinfer.api.lease import GPULease, GPULeaseSpec, problem
from flexinfer.api.metadata import Metadata
from flexinfer.cli import reach
from flexinfer.cli.errors import CommandError
from flexinfer.cli.sentences import leased
from flexinfer.cli.target import target_arguments
from flexinfer.runtime.kubernetes.api import (
    GPU_LEASES,
    AlreadyExistsError,
    Cluster,
    NotFoundError,
    get_or_none,
)

_LOOK_SECONDS = 0.5
_MEMORY = re.compile(r"(\d{1,9})(Mi|Gi)?")
_COLUMNS = ("NAME", "GROUP", "MEMORY", "STATE", "POSITION", "EXPIRES", "REASON")
Pause = Callable[[float], Awaitable[None]]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the three commands, the namespace, and where the API server is: the latter before or after the command."""
    _where(parser)
    again = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    _where(again)
    commands = parser.add_subparsers(dest="action", required=True, metavar="take|give|list")
    _take_arguments(
        commands.add_parser("take", parents=[again], help="take GPU memory of a shared group for a while")
    )
    give = commands.add_parser("give", parents=[again], help="give a lease back, or stop waiting for it")
    give.add_argument("name", metavar="NAME")
    commands.add_parser("list", parents=[again], help="list the leases of a namespace")


def _where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--namespace", help="default: default")
    target_arguments(parser)


def _take_arguments(take: argparse.ArgumentParser) -> None:
    take.add_argument("name", metavar="NAME")
    take.add_argument("--group", required=True, help="the shared group, as Models name it in spec.gpu.shared")
    take.add_argument(
        "--memory",
        metavar="SIZE",
        type=memory_mb,
        help="of each GPU, such as 8Gi or 8192 (MiB); else the whole",
    )
    take.add_argument("--duration", default="2h", help="from the grant, at most 168h (default: 2h)")
    take.add_argument("--priority", type=int, default=1000, help="0 to 1000 (default: 1000)")
    take.add_argument("--reason", default="", help="what it is for, for other people")
    take.add_argument("--wait", action="store_true", help="return once the memory is free and kept for you")
    take.add_argument(
        "--timeout",
        metavar="DURATION",
        default="",
        help="with --wait: give up after this; the lease stays queued",
    )


def memory_mb(text: str) -> int:
    """Return a size such as 8Gi, 8192Mi or 8192 in MiB. Raises ArgumentTypeError."""
    size = _MEMORY.fullmatch(text)
    if size is None:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a size such as 8Gi or 8192 (MiB)")
    return int(size[1]) * (1024 if size[2] == "Gi" else 1)


def run(options: argparse.Namespace) -> int:
    """Carry the command out. Raises CommandError, ApiError."""
    options.namespace = options.namespace or "default"
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    async with reach.api(options) as api:
        match options.action:
            case "take":
                return await take(api, asked_for(options), wait=options.wait, timeout=_timeout(options))
            case "give":
                return await give(api, options.namespace, options.name)
            case _:
                print("\n".join(table((await api.list(GPU_LEASES, options.namespace)).items)))
                return 0


def asked_for(options: argparse.Namespace) -> GPULease:
    """Return the lease of a command line. Raises CommandError if it breaks a rule of the API."""
    spec = GPULeaseSpec(
        group=options.group,
        memory_mb=options.memory,
        priority=options.priority,
        duration=options.duration,
        reason=options.reason,
    )
    fault = problem(spec)
    if fault:
        raise CommandError(f"lease {options.name}: {fault}")
    return GPULease(metadata=Metadata(name=options.name, namespace=options.namespace), spec=spec)


def _timeout(options: argparse.Namespace) -> float | None:
    """Return --timeout in seconds; None without one. Raises CommandError if it is not a duration, or without --wait."""
    if not options.timeout:
        return None
    if not options.wait:
        raise CommandError("--timeout is for --wait")
    try:
        return seconds(options.timeout)
    except ValueError as error:
        raise CommandError(f"--timeout: {error}") from error


async def take(
    api: Cluster,
    lease: GPULease,
    *,
    wait: bool = False,
    timeout: float | None = None,  # noqa: ASYNC109 -- the user's, told by a message of its own
    pause: Pause = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Take a lease, in place of one of its name that is over. Raises CommandError if there is one that is not, ApiError."""
    new_lease = await _create(api, lease)
    print(
        f"lease {new_lease.key} taken: group {new_lease.spec.group}, {_memory(new_lease.spec)}, {new_lease.spec.duration}"
    )
    if not wait:
        print(f"`flexinfer lease list -n {new_lease.metadata.namespace}` shows when it is Granted")
        return 0
    until = None if timeout is None else clock() + timeout
    progress = ""
    while True:
        current = await _read(api, new_lease)
        if current.condition() is not None and leased(current) != progress:
            progress = leased(current)
            print(one_line(progress), flush=True)
        if current.granted:
            return 0
        if current.ended:
            raise CommandError(f"lease {current.key} is over: {one_line(progress)}")
        if until is not None and clock() >= until:
            give_back = f"flexinfer lease give {current.metadata.name} -n {current.metadata.namespace}"
            raise CommandError(
                f"lease {current.key} is not granted yet and stays queued; `{give_back}` ends that"
            )
        await pause(_LOOK_SECONDS)


async def _create(api: Cluster, lease: GPULease) -> GPULease:
    meta = lease.metadata
    body = {
        "apiVersion": lease.api_version,
        "kind": lease.kind,
        "metadata": {"name": meta.name, "namespace": meta.namespace},
        "spec": _plain(lease.spec),
    }
    try:
        return await api.create(GPU_LEASES, meta.namespace, body)
    except AlreadyExistsError:
        current = await api.get(GPU_LEASES, meta.namespace, meta.name)
        if not current.ended:
            raise CommandError(
                f"lease {current.key} exists ({leased(current)}); `flexinfer lease give {meta.name} -n {meta.namespace}` gives it back"
            ) from None
    await api.delete(GPU_LEASES, meta.namespace, meta.name, uid=current.uid)
    return await api.create(GPU_LEASES, meta.namespace, body)


def _plain(spec: GPULeaseSpec) -> dict[str, object]:
    """Return the fields of a spec that are set."""
    fields: dict[str, object] = {"group": spec.group, "priority": spec.priority, "duration": spec.duration}
    if spec.memory_mb is not None:
        fields["memoryMB"] = spec.memory_mb
    return {**fields, "reason": spec.reason} if spec.reason else fields


async def _read(api: Cluster, lease: GPULease) -> GPULease:
    """Return a lease as it is now. Raises CommandError if it was given back meanwhile."""
    meta = lease.metadata
    current = await get_or_none(api, GPU_LEASES, meta.namespace, meta.name)
    if current is None or current.uid != lease.uid:
        raise CommandError(f"lease {lease.key} was given back while it was waited for")
    return current


async def give(api: Cluster, namespace: str, name: str) -> int:
    """Give a lease back. Raises CommandError if there is none, ApiError."""
    try:
        lease = await api.get(GPU_LEASES, namespace, name)
        await api.delete(GPU_LEASES, namespace, name, uid=lease.uid)
    except NotFoundError as error:
        raise CommandError(
            f"lease {name!r} not found in namespace {namespace}; `kubectl get gl -A` lists all leases"
        ) from error
    note = "; the models of its group start again with their next request, once its processes have ended"
    print(f"lease {lease.key} given back{note if lease.granted else ''}")
    return 0


def table(leases: Sequence[GPULease]) -> list[str]:
    """Return leases as the lines of a table; one sentence if there are none."""
    if not leases:
        return ["no leases"]
    rows = [_COLUMNS, *(_row(lease) for lease in sorted(leases, key=lambda lease: lease.key))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return [
        "   ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(lease: GPULease) -> tuple[str, ...]:
    condition, status = lease.condition(), lease.status
    return (
        lease.metadata.name,
        lease.spec.group,
        _memory(lease.spec),
        condition.reason if condition is not None else "New",
        str(status.position or "-"),
        status.expires_at or "-",
        one_line(lease.spec.reason) or "-",
    )


def _memory(spec: GPULeaseSpec) -> str:
    return f"{spec.memory_mb} MiB" if spec.memory_mb is not None else "whole GPU"
