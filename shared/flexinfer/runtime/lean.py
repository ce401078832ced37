"""aiohttp, nats and kubernetes_asyncio without what they import and no service uses; nothing else of ours imports the first two sooner.

Each service is a process of its own, so a library's habit is paid eight times. Measured on the launcher, private memory after its imports: 29.5
MiB without this, 24.1 with it. Left out are the system's certificate authorities, which aiohttp reads into a context that is there in case of need
(1.7; who speaks TLS here brings the authority it trusts), dateutil (1.6), urllib3 (1.0), the packages' metadata (0.7) and a pool of threads (0.5).

The stand-ins are there only while a library is imported; who imports the real ones before or later gets them.
"""

import contextlib
import os
import sys
import types
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any

_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def _basic(*, basic_auth: str) -> dict[str, str]:
    """Return what urllib3 would make of a user and a password."""
    return {"authorization": f"Basic {b64encode(basic_auth.encode()).decode()}"}


_STAND_INS: Mapping[str, Mapping[str, Any]] = {
    "dateutil": {},
    "dateutil.parser": {"parse": None},
    "importlib.metadata": {"version": lambda _name: "0.0.0"},
    "multiprocessing.pool": {"ThreadPool": None},
    "urllib3": {"util": types.SimpleNamespace(make_headers=_basic)},
}


@contextlib.contextmanager
def lean() -> Iterator[None]:
    """Import libraries in this block."""
    absent = [name for name in _STAND_INS if name not in sys.modules]
    if "multiprocessing" not in sys.modules:
        absent.append("multiprocessing")
    former = {name: os.environ.get(name) for name in _AUTHORITIES}
    for name in absent:
        module = sys.modules[name] = types.ModuleType(name)
        module.__dict__.update(_STAND_INS.get(name, {}))
    os.environ.update(dict.fromkeys(_AUTHORITIES, os.devnull))
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        for name in absent:
            del sys.modules[name]


with lean():
    import aiohttp
    import nats
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.errors import Error as NatsError
    from nats.errors import NoRespondersError

__all__ = ["Client", "Msg", "NatsError", "NoRespondersError", "aiohttp", "lean", "nats"]
