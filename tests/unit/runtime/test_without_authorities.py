"""What a long-lived process does not hold: the certificate authorities of its system, which it verifies nothing by."""

import json
import os
import subprocess
import sys

import pytest

from flexinfer.api.services import SERVICES

PROGRAM = """
import gc, importlib, json, os, ssl, sys
importlib.import_module(sys.argv[1])
contexts = [one for one in gc.get_objects() if isinstance(one, ssl.SSLContext)]
held = sum(one.cert_store_stats()["x509_ca"] for one in contexts)
later = ssl.create_default_context().cert_store_stats()["x509_ca"]
print(json.dumps([held, later, os.environ.get("SSL_CERT_FILE", "")]))
"""


def authorities(module: str, **environment: str) -> tuple[int, int, str]:
    """Return the authorities that a process holds once it has imported a module, those that a context made then has, and the variable for them."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SSL_CERT_")}
    argv = [sys.executable, "-c", PROGRAM, module]
    held, later, variable = json.loads(subprocess.check_output(argv, env=clean | environment))
    return held, later, variable


COMPONENTS = [f"flexinfer.{name}.__main__" for name in SERVICES]
OF_AN_INSTANCE = ["flexinfer.local.kubernetes", "flexinfer.local.apiserver", "flexinfer.local.kubelet"]


@pytest.mark.parametrize("module", COMPONENTS + OF_AN_INSTANCE)
def test_a_process_holds_none_and_a_context_made_later_has_all(module: str) -> None:
    """As many as any other process of this machine."""
    _, all_of_them, _ = authorities("json")
    assert authorities(module) == (0, all_of_them, "")


def test_a_variable_that_names_them_is_kept() -> None:
    """A plugin for credentials may need it."""
    assert authorities("flexinfer.agent.__main__", SSL_CERT_FILE="/none") == (0, 0, "/none")
