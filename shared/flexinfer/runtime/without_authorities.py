"""Imports aiohttp without the certificate authorities of this system; to be imported before whatever else imports aiohttp.

At its import aiohttp makes a TLS context of all of them, for a caller that names none: 2.3 MiB in every process. A component always names one, made of
the authority of its kubeconfig or its settings, or speaks plain HTTP to Pods. What downloads from other hosts is
a process of its own, and names one that it makes of those of this system.
"""

import importlib
import os

_NONE = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
"""What OpenSSL reads the authorities from: https://docs.openssl.org/3.0/man3/SSL_CTX_load_verify_locations/."""


def _import_aiohttp() -> None:
    before = {name: os.environ.get(name) for name in _NONE}
    os.environ.update(_NONE)
    try:
        importlib.import_module("aiohttp")
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


_import_aiohttp()
