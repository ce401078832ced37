"""vLLM's logging: the log as vLLM writes it, and the errors that end its engine again as the container's termination message. Pure.

vLLM's process for requests ends after its engine's, and writes 5 KB of its own: of the end of the log, which the kubelet keeps, nothing is left
that names the cause. These two loggers write nothing but the end of an engine or of a worker, and no request.
"""

import json
from collections.abc import Mapping

from flexinfer.backends import base

FILE = "logging.json"
CONFIG_PATH = "VLLM_LOGGING_CONFIG_PATH"
TERMINATION_LOG = "/dev/termination-log"
"""Kubernetes' default of terminationMessagePath. The kubelet makes a new one for each start of a container, and reads its last 4 KiB."""
_LEVEL = "VLLM_LOGGING_LEVEL"
_OWN = ("VLLM_LOGGING_", "VLLM_CONFIGURE_LOGGING")
_FATAL = ("vllm.v1.engine.core", "vllm.v1.executor.multiproc_executor")
_LINE = "(%(processName)s pid=%(process)d) %(levelname)s %(asctime)s [%(filename)s:%(lineno)d] %(message)s"


def files(serving: base.Serving) -> Mapping[str, str]:
    """Return vLLM's logging configuration, with the level that a spec chooses; none for a spec that chooses more of it."""
    variables = {variable.name: variable.value for variable in serving.spec.env}
    level = (variables.pop(_LEVEL, "") or "INFO").upper()
    if any(name.startswith(_OWN) for name in variables):
        return {}
    return {FILE: json.dumps(_config(level))}


def env(serving: base.Serving) -> Mapping[str, str]:
    """Return the variable that names it."""
    return {CONFIG_PATH: f"{base.FILES}/{FILE}"} if files(serving) else {}


def _config(level: str) -> Mapping[str, object]:
    """Return a configuration for logging.config.dictConfig. The file is opened with the first error: where there is none, vLLM starts as ever."""
    cause = {"class": "logging.FileHandler", "filename": TERMINATION_LOG, "delay": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": _LINE, "datefmt": "%m-%d %H:%M:%S"}},
        "handlers": {
            "log": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "line"},
            "cause": {**cause, "level": "ERROR"},
        },
        "loggers": {
            "vllm": {"handlers": ["log"], "level": level, "propagate": False},
            **{name: {"handlers": ["cause"]} for name in _FATAL},
        },
    }
