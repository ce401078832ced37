"""`python -m flexinfer.credentials`: create the Secrets that are missing, then wait to be ended.

A Deployment of the manifests runs it: a container that ended would be started again.
"""

import asyncio
import logging
import os
import signal
import sys
from typing import NoReturn

from flexinfer.credentials.secrets import make
from flexinfer.runtime import log
from flexinfer.runtime.kubernetes import client
from flexinfer.runtime.kubernetes.api import ApiError
from flexinfer.runtime.settings import Settings, SettingsError, load, warnings

logger = logging.getLogger(__name__)


async def main(settings: Settings) -> None:
    """Create the Secrets that are missing. Raises ApiError."""
    async with client.connected(settings.kubeconfig) as api:
        names = await make(api, settings.cluster_domain)
    logger.info("%d Secrets created", len(names))


_ENDS = (signal.SIGTERM, signal.SIGINT)
_WAIT = f"import signal; signal.sigwait({{{', '.join(str(int(end)) for end in _ENDS)}}})"


def wait() -> NoReturn:
    """Become a process that does nothing until SIGTERM: an interpreter without a module, a fifth of the memory.

    The signal is blocked before, so that it is not lost: the first process of a container ignores what it has no handler for.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", _WAIT])  # noqa: S606 -- no shell is wanted


def boot() -> None:
    """Create them once and wait; exits 2 on bad settings, 1 on an error of the API server, so that it is started again."""
    try:
        settings = load(os.environ)
        log.set_up("credentials", settings.log_level)
        for sentence in warnings(os.environ):
            logger.warning(sentence)
        asyncio.run(main(settings))
    except SettingsError as error:
        sys.stderr.write(f"flexinfer-credentials: {error}\n")
        raise SystemExit(2) from error
    except ApiError as error:
        sys.stderr.write(f"flexinfer-credentials: {error}\n")
        raise SystemExit(1) from error
    wait()


if __name__ == "__main__":
    boot()
