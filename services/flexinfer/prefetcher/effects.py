"""The effects that the prefetcher decides on, besides writes of the status. Pure."""

import msgspec

from flexinfer.api.model import CacheStatus, Model
from flexinfer.api.reasons import Reason
from flexinfer.api.status import CachedStatus
from flexinfer.events.workload import JobFacts
from flexinfer.prefetcher import status
from flexinfer.prefetcher.plan import CHECK
from flexinfer.state.actions import WriteStatus


class EnsureJob(msgspec.Struct, frozen=True, kw_only=True):
    """Create the PVC, if it is the Model's cache, and the Job, unless they exist.

    `digest` is that of the plan when it was decided: a PVC that was observed since makes it another action.
    """

    model: Model
    digest: str = ""
    kind: str = CHECK
    keeps: bool = False
    """Whether the condition stays as it is: a failure that is looked at again."""
    size: int = 0
    """Bytes of the files for which a missing PVC is created; 0: not listed yet."""

    @property
    def key(self) -> str:
        """The Model's key."""
        return self.model.key

    @property
    def write(self) -> WriteStatus | None:
        """The status that a new check writes: it takes its slot from the moment of the decision."""
        if self.kind != CHECK or not self.digest or self.keeps:
            return None
        condition = status.false(self.model, Reason.CHECKING, "")
        return WriteStatus(
            model=self.model,
            status=CachedStatus(condition=condition, cache=self.model.status.cache or CacheStatus()),
        )


class DeleteJob(msgspec.Struct, frozen=True, kw_only=True):
    """Delete a Job whose result is recorded or that has other inputs; `retried`: with a digest, to create it again."""

    model: Model
    job: JobFacts
    retried: str = ""
    lacks: int = 0
    """Bytes that the PVC of the cache is too small by: it grows first, where it may."""

    @property
    def key(self) -> str:
        """The Job's key: it can be deleted while the Model's status is written."""
        return f"{self.model.key}/{self.job.name}"
