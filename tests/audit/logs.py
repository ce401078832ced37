"""Keeping: where the audit logs of a test run are gathered. $FLEXINFER_AUDIT names the folder; without it nothing is kept."""

import os
import shutil
from pathlib import Path

VARIABLE = "FLEXINFER_AUDIT"


def options(api: str) -> tuple[str, ...]:
    """Return what `flexinfer up` is told so that there is a log to keep."""
    return ("--api", api, "--audit") if api != "local" and VARIABLE in os.environ else ("--api", api)


def keep(state: Path) -> None:
    """Keep the log of an instance that has stopped."""
    log, folder = state / "plane" / "audit.log", os.environ.get(VARIABLE)
    if folder and log.exists():
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, Path(folder) / f"{state.parent.name}-{os.getpid()}.log")
