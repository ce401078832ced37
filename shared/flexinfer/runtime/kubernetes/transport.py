"""The only import of kubernetes_asyncio: its configuration, auth and transport without its 1,271 model modules.

`import kubernetes_asyncio.client` costs 37 MiB and 0.2 s in every process. We read raw bytes with msgspec and need none of the
generated models, so three empty packages stand in for the package roots while the few modules that we use are imported. It is a hack on
package layout: the version is bounded in pyproject, and a test imports this module in a fresh interpreter.
"""

import importlib
import importlib.util
import sys
import types
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from urllib.request import getproxies

from flexinfer.runtime.lean import aiohttp, lean

_READ_BYTES = 1 << 21
"""As kubernetes_asyncio has it: an object may be this large, and a watch tells it in one line."""
_ROOTS = ("kubernetes_asyncio", "kubernetes_asyncio.client", "kubernetes_asyncio.client.models")


def _stand_in() -> None:
    spec = importlib.util.find_spec("kubernetes_asyncio")
    if spec is None or spec.origin is None:
        raise ImportError("kubernetes_asyncio is not installed")
    root = Path(spec.origin).parent
    for name in _ROOTS:
        module = types.ModuleType(name)
        module.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        module.__spec__ = ModuleSpec(name, None, is_package=True)
        module.__dict__["__version__"] = "stand-in"
        sys.modules[name] = module
    package, client = (sys.modules[name] for name in _ROOTS[:2])
    package.__dict__["client"] = client
    client.__dict__["models"] = sys.modules[_ROOTS[2]]


def _attribute(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


if "kubernetes_asyncio" not in sys.modules:
    _stand_in()
with lean():
    Configuration = _attribute("kubernetes_asyncio.client.configuration", "Configuration")
    sys.modules["kubernetes_asyncio.client"].__dict__["Configuration"] = Configuration
    ApiClient = _attribute("kubernetes_asyncio.client.api_client", "ApiClient")
sys.modules["kubernetes_asyncio.client"].__dict__["ApiClient"] = ApiClient
ConfigException = _attribute("kubernetes_asyncio.config.config_exception", "ConfigException")
load_kube_config = _attribute("kubernetes_asyncio.config.kube_config", "load_kube_config")
load_incluster_config = _attribute("kubernetes_asyncio.config.incluster_config", "load_incluster_config")


async def configured(kubeconfig: str) -> Any:
    """Return the way to the API server by kubeconfig, or by the Pod's service account when that is empty; ConfigException, OSError."""
    configuration = Configuration()
    if kubeconfig:
        await load_kube_config(
            config_file=kubeconfig, client_configuration=configuration, persist_config=False
        )
    else:
        load_incluster_config(client_configuration=configuration)
    return configuration


def client(configuration: Any) -> Any:
    """Return a client, to be closed by `close`, whose requests go by the environment's proxies where it names any.

    kubernetes_asyncio's own session always looks for proxies and for ~/.netrc, and aiohttp does each in a thread, for every request: two
    changes of threads on the way to the API server. Who has no proxy waits for neither.
    """
    made = ApiClient(configuration)
    former = made.rest_client.pool_manager
    made.rest_client.pool_manager = aiohttp.ClientSession(
        connector=former.connector, trust_env=proxied(getproxies()), read_bufsize=_READ_BYTES
    )
    former.detach()
    return made


def proxied(proxies: Mapping[str, str]) -> bool:
    """Tell whether an environment names a proxy; a list of hosts to reach without one (`no`) is none."""
    return any(scheme != "no" for scheme in proxies)
