"""`python -m flexinfer.prefetcher`."""

import functools
from collections.abc import Iterable

from flexinfer.api.services import SERVICES
from flexinfer.prefetcher.claims import ClaimAudit
from flexinfer.prefetcher.decide import decide, write_of
from flexinfer.prefetcher.effects import DeleteJob, EnsureJob
from flexinfer.prefetcher.memory import Fact, Memory, forget, remember
from flexinfer.prefetcher.perform import perform, settings_of
from flexinfer.prefetcher.progress import ProgressReader, ask_http
from flexinfer.prefetcher.provisioner import ProvisionerReader
from flexinfer.prefetcher.slots import touched, touched_by
from flexinfer.runtime.controller import Controller, model_keys
from flexinfer.runtime.process import runnable_of
from flexinfer.runtime.runtime import subscriptions_of
from flexinfer.runtime.settings import Settings


def controller(settings: Settings) -> Controller[EnsureJob | DeleteJob, Fact, Memory]:
    """Return the prefetcher's controller."""
    reader, audit, provisioner = ProgressReader(ask_http), ClaimAudit(), ProvisionerReader()

    def touch(keys: Iterable[str]) -> Iterable[str]:
        return provisioner.touch(audit.touch(reader.touch(keys)))

    return Controller(
        name="prefetcher",
        decide=functools.partial(decide, settings=settings_of(settings)),
        perform=perform,
        status_write=write_of,
        touched=lambda before, after, event: touch(touched(before, after, event)),
        touched_by=touched_by,
        keys=lambda state: touch(model_keys(state)),
        remember=remember,
        forget=forget,
        subscriptions=subscriptions_of(SERVICES["prefetcher"]),
        memory=Memory(),
        observers=(reader.observe, audit.observe, provisioner.observe),
        companions=(reader.watch, audit.watch, provisioner.watch),
    )


RUNNABLE = runnable_of("prefetcher", controller)
boot = RUNNABLE.boot


if __name__ == "__main__":
    boot()
