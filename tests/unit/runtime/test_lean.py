"""Each service starts without what its libraries would bring along and it never uses; asked in a fresh interpreter, as it starts."""

import subprocess
import sys

import pytest

from flexinfer.events.permissions import SERVICES

_ASK = """
import importlib, os, sys
os.environ["SSL_CERT_FILE"] = "/somebody's"
importlib.import_module(sys.argv[1])
from aiohttp import connector
heavy = {"dateutil", "importlib.metadata", "multiprocessing", "urllib3"} & set(sys.modules)
print(sorted(heavy), connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509_ca"], os.environ["SSL_CERT_FILE"])
"""


def _told(script: str, *words: str) -> str:
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_carries_nothing_that_it_does_not_use(service: str) -> None:
    """Neither the modules nor the authorities; the user's own variables stay."""
    assert _told(_ASK, f"flexinfer.{service}.__main__") == "[] 0 /somebody's"


def test_the_real_libraries_are_there_for_who_asks_for_them() -> None:
    """The stand-ins do not outlive the imports."""
    script = """
import flexinfer.runtime.kubernetes.client, dateutil.parser, urllib3.util, multiprocessing.pool, importlib.metadata
print(callable(dateutil.parser.parse), callable(multiprocessing.pool.ThreadPool), importlib.metadata.version("aiohttp")[0])
"""
    assert _told(script) == "True True 3"


def test_a_kubeconfig_with_a_password_still_works() -> None:
    """What urllib3 is used for is done without it."""
    script = """
from flexinfer.runtime.kubernetes.transport import Configuration
print(Configuration(username="a", password="b").get_basic_auth_token())
"""
    assert _told(script) == "Basic YTpi"
