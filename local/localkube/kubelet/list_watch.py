"""Mirror: list, then watch, for ever: whatever happens to the API server, the reader ends up with the truth.

What a new list lacks is told as DELETED, so a reader never misses an end, however long the API was away.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import TypeAlias

from localkube.kubelet.api_errors import ApiError, ExpiredError
from localkube.kubelet.client import Client, Object

Change: TypeAlias = tuple[str, Object]  # ADDED, MODIFIED, DELETED or LISTED, with the object ({} for LISTED)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0

log = logging.getLogger(__name__)


async def list_and_watch(
    client: Client, path: str, *, report_lists: bool = False, **query: str
) -> AsyncIterator[Change]:
    """Yield every change of a resource; with `report_lists`, also ("LISTED", {}) when a list has been told whole."""
    known: dict[str, Object] = {}  # uid -> last told
    version, pause = "", _FIRST_PAUSE
    while True:
        try:
            if not version:
                listing = await client.get(path, **query)
                version = listing["metadata"]["resourceVersion"]
                for change in difference(known, listing["items"]):
                    yield change
                if report_lists:
                    yield "LISTED", {}
            async for kind, found in client.watch(path, version, **query):
                version, pause = found["metadata"]["resourceVersion"], _FIRST_PAUSE
                if kind != "BOOKMARK":
                    _note(known, kind, found)
                    yield kind, found
            await asyncio.sleep(
                _FIRST_PAUSE
            )  # a server that ends every watch at once is not asked without a breath
        except ExpiredError:
            version = ""
        except ApiError as error:
            log.warning("%s: %s", path, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def _note(known: dict[str, Object], kind: str, found: Object) -> None:
    if kind == "DELETED":
        known.pop(found["metadata"]["uid"], None)
    else:
        known[found["metadata"]["uid"]] = found


def difference(known: dict[str, Object], items: list[Object]) -> list[Change]:
    """Return what turns the known objects into the listed ones, ends first; updates `known`."""
    listed = {item["metadata"]["uid"]: item for item in items}
    changes: list[Change] = [("DELETED", gone) for uid, gone in known.items() if uid not in listed]
    for uid, item in listed.items():
        former = known.get(uid)
        if former is None:
            changes.append(("ADDED", item))
        elif former["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
            changes.append(("MODIFIED", item))
    known.clear()
    known.update(listed)
    return changes
