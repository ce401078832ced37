"""List and watch: every change of a resource, across errors, expired versions and lost connections; client-go's Reflector.

Objects that a new list lacks are reported as DELETED, so no deletion is missed, however long the API server was unavailable.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import TypeAlias

from localkube.kubelet.api_errors import ApiError, ExpiredError
from localkube.kubelet.client import Client, Object

Change: TypeAlias = tuple[str, Object]  # ADDED, MODIFIED, DELETED or LISTED, with the object ({} for LISTED)
_FIRST_DELAY, _MAX_DELAY = 0.05, 2.0

log = logging.getLogger(__name__)


async def list_and_watch(
    client: Client, path: str, *, report_lists: bool = False, **query: str
) -> AsyncIterator[Change]:
    """Yield every change of a resource; with `report_lists`, also ("LISTED", {}) after the objects of each list."""
    cache: dict[str, Object] = {}  # by uid
    version, delay = "", _FIRST_DELAY
    while True:
        try:
            if not version:
                listing = await client.get(path, **query)
                version = listing["metadata"]["resourceVersion"]
                for change in difference(cache, listing["items"]):
                    yield change
                if report_lists:
                    yield "LISTED", {}
            async for kind, obj in client.watch(path, version, **query):
                version, delay = obj["metadata"]["resourceVersion"], _FIRST_DELAY
                if kind != "BOOKMARK":
                    _store(cache, kind, obj)
                    yield kind, obj
            await asyncio.sleep(_FIRST_DELAY)  # in case the server ends every watch at once
        except ExpiredError:
            version = ""
        except ApiError as error:
            log.warning("%s: %s", path, error)
            await asyncio.sleep(delay)
            delay = min(2 * delay, _MAX_DELAY)


def _store(cache: dict[str, Object], kind: str, obj: Object) -> None:
    if kind == "DELETED":
        cache.pop(obj["metadata"]["uid"], None)
    else:
        cache[obj["metadata"]["uid"]] = obj


def difference(cache: dict[str, Object], items: list[Object]) -> list[Change]:
    """Return what turns the cached objects into the listed ones, deletions first; updates `cache`."""
    by_uid = {item["metadata"]["uid"]: item for item in items}
    changes: list[Change] = [("DELETED", obj) for uid, obj in cache.items() if uid not in by_uid]
    for uid, item in by_uid.items():
        previous = cache.get(uid)
        if previous is None:
            changes.append(("ADDED", item))
        elif previous["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
            changes.append(("MODIFIED", item))
    cache.clear()
    cache.update(by_uid)
    return changes
