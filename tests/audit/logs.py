"""Collects the audit logs of a test run in the folder $FLEXINFER_AUDIT; without it nothing is kept."""

import os
import shutil
from pathlib import Path

VARIABLE = "FLEXINFER_AUDIT"


def options(api: str) -> tuple[str, ...]:
    """Return the options of `flexinfer up` for an API, with an audit log if it is to be kept."""
    return ("--api", api, "--audit") if api != "local" and VARIABLE in os.environ else ("--api", api)


def keep(state: Path) -> None:
    """Copy the audit log of a stopped instance to the folder."""
    log, folder = state / "plane" / "audit.log", os.environ.get(VARIABLE)
    if folder and log.exists():
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, Path(folder) / f"{state.parent.name}-{os.getpid()}.log")
