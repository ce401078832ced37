"""flexinfer-diffusers-server: configured by its environment, as the backend `diffusers` sets it. Exit code 2: it is set up wrongly."""

import asyncio
import importlib.util
import logging
import os
import sys
from typing import NoReturn

from flexinfer.image_server import settings
from flexinfer.image_server.pipeline import Pipeline, Stage
from flexinfer.image_server.serve import serve
from flexinfer.image_server.settings import Settings

log = logging.getLogger("flexinfer.image_server")
REQUIRED = ("torch", "diffusers", "transformers")
"""What the extra `diffusers` brings."""


def boot() -> NoReturn:
    """Serve until a signal."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        _check_installed()
        config = settings.read(os.environ)
        settings.check(config)
        code = asyncio.run(serve(config, lambda stage: _load(config, stage)))
    except (ValueError, OSError) as error:
        log.error("%s", error)  # noqa: TRY400 -- the sentence is all that helps
        code = 2
    sys.stderr.flush()
    os._exit(code)  # a thread that loads or draws cannot be ended, and must not keep the process


def _check_installed() -> None:
    missing = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed in {sys.prefix}; "
            "pip install 'flexinfer[diffusers]' there, or name a server that has them in FLEXINFER_PROGRAM_DIFFUSERS"
        )


def _load(config: Settings, stage: Stage) -> Pipeline:
    """Import diffusers where the pipeline is loaded, in its thread: it takes seconds, in which /health answers already."""
    stage("importing diffusers")
    if not settings.is_quantized(config):
        # Where it is installed diffusers imports it with a compiler: a sixth of what a start computes.
        sys.modules["bitsandbytes"] = None  # type: ignore[assignment] # it counts as not installed
    from flexinfer.image_server import diffusion  # noqa: PLC0415

    return diffusion.load(config, stage)


if __name__ == "__main__":
    boot()
