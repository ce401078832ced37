"""`python -m flexinfer.credentials`: create the Secrets that are missing, and exit.

A Job of the manifests runs it.
"""

import asyncio
import logging
import os
import sys

from flexinfer.credentials.secrets import make
from flexinfer.runtime import log
from flexinfer.runtime.kubernetes import client
from flexinfer.runtime.kubernetes.api import ApiError
from flexinfer.runtime.settings import Settings, SettingsError, load, warnings

logger = logging.getLogger(__name__)


async def main(settings: Settings) -> None:
    """Create the Secrets that are missing. Raises ApiError."""
    async with client.connected(settings.kubeconfig) as api:
        created = await make(api, settings.cluster_domain)
    logger.info("%d Secrets created", len(created))


def boot() -> None:
    """Run once; exits 2 on bad settings, 1 on an error of the API server, so that the Job retries."""
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


if __name__ == "__main__":
    boot()
