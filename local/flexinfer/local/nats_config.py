"""nats-server's configuration for one machine: loopback, a file store that syncs every write, one user per component."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from flexinfer.events.permissions import permissions

_MAX_PAYLOAD = 4 << 20
_MAX_FILE, _MAX_MEMORY = 2 << 30, 1 << 27


def configuration(*, host: str, port: int, store: Path, passwords: Mapping[str, str]) -> bytes:
    """Return the configuration file; `passwords` maps each user to its password."""
    users: list[dict[str, Any]] = [
        {
            "user": user,
            "password": password,
            "permissions": {
                "publish": {"allow": list(permissions(user).publish)},
                "subscribe": {"allow": list(permissions(user).subscribe)},
            },
        }
        for user, password in passwords.items()
    ]
    config: dict[str, Any] = {
        "server_name": "flexinfer",
        "host": host,
        "port": port,
        "max_payload": _MAX_PAYLOAD,
        "jetstream": {
            "store_dir": str(store),
            "sync_interval": "always",
            "max_file_store": _MAX_FILE,
            "max_memory_store": _MAX_MEMORY,
        },
        "authorization": {"users": users},
    }
    return msgspec.json.format(msgspec.json.encode(config))
