"""`python -m flexinfer.credentials`: make what is missing, and end. A Job of the manifests runs it."""

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
    """Make what is missing."""
    async with client.connected(settings.kubeconfig) as api:
        made = await make(api, settings.cluster_domain)
    logger.info("%d Secrets made", len(made))


def boot() -> None:
    """Run once; exits 2 on bad settings, 1 when the API server says no, so that the Job tries again."""
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
