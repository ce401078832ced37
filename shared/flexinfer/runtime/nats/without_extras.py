"""Imports nats-py without what it imports for others; to be imported before whatever else imports nats-py.

aiohttp is an extra of nats-py for WebSockets, which it imports wherever it is installed; components reach NATS by TCP and TLS. By importlib.metadata
it looks up its own version, for the list of connections that a server shows; without it that is 0.0.0. Together these are 10 MiB in every process. Both
imports are optional to nats-py, and are hidden for the time of its import: `None` in `sys.modules` is Python's way to say that a module does not exist
(https://docs.python.org/3/reference/import.html#the-module-cache). Whatever else imports them, before or later, gets them.
"""

import importlib
import sys
from types import ModuleType

_HIDDEN = ("aiohttp", "importlib.metadata")


def _import_nats() -> None:
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]  # None is documented
    before = {name: modules[name] for name in _HIDDEN if name in modules}
    modules.update(dict.fromkeys(_HIDDEN))
    try:
        importlib.import_module("nats.aio.client")
    finally:
        for name in _HIDDEN:
            del modules[name]
        modules.update(before)


_import_nats()
