"""Companions: what runs beside a control loop. An error that one raises costs it a while, and never the process.

What it met, such as a label that was not foreseen, may still be there: it begins again, ever less often, and all decisions continue meanwhile.
"""

import logging

from flexinfer.runtime.controller import Companion, F, Remember
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.work_queue import LONGEST_FAILURE_BACK_OFF, failure_back_off

log = logging.getLogger(__name__)


async def accompany(runtime: Runtime, companion: Companion[F], remember: Remember[F]) -> None:
    """Run a companion until it ends or is cancelled; after an error that it raises it begins again after a back-off."""
    failures, name = 0, getattr(companion, "__qualname__", type(companion).__name__)
    while True:
        began = runtime.clock()
        try:
            await companion(runtime, remember)
        except Exception as error:
            failures = failures + 1 if runtime.clock() - began < LONGEST_FAILURE_BACK_OFF else 1
            seconds = failure_back_off(failures)
            log.exception("%s: %s: it begins again in %.0f s", name, type(error).__name__, seconds)
            runtime.report_failure(name, error)
            await runtime.sleep(seconds)
        else:
            return
