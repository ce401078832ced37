"""`flexinfer verify`: read a Model's weights again and compare each file with the manifest that its download wrote.

A Job on the Model's node does it, with the volume read-only; the engine continues meanwhile. The Job is deleted afterwards.
"""

import argparse
import asyncio
from collections.abc import Callable

import msgspec

from flexinfer import sources
from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.api.kinds import JOBS, PODS
from flexinfer.api.model import Model
from flexinfer.cli import reach
from flexinfer.cli.errors import CommandError
from flexinfer.cli.preflight.objects import DEPLOYMENTS
from flexinfer.cli.target import target_arguments
from flexinfer.events.workload import JobFacts, job_facts
from flexinfer.prefetcher.jobs import verification
from flexinfer.prefetcher.messages import size
from flexinfer.prefetcher.report import failure_cause, report_of
from flexinfer.runtime.kubernetes.api import Cluster, NotFoundError
from flexinfer.runtime.settings import Settings
from flexinfer.sources import Location, Volume

_EVERY_SECONDS = 0.5
_IMAGE = "FLEXINFER_IMAGE"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the Model's name, its namespace, a deadline, and where the API server is."""
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument("--timeout", type=float, default=3600.0, metavar="SECONDS", help="default: an hour")
    target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print the result; returns 1 if a file is another one. Raises CommandError, ApiError."""
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    async with reach.api(options) as api:
        model = await reach.model_of(api, options.namespace, options.model)
        return await verified(api, model, options.timeout, print)


async def verified(api: Cluster, model: Model, seconds: float, tell: Callable[[str], None]) -> int:
    """Run the Job to its end and tell its result; returns the exit status. Raises CommandError, ApiError."""
    location = _location(model)
    namespace = model.metadata.namespace
    job = await api.create(JOBS, namespace, verification(model, location, await _image(api)))
    try:
        async with asyncio.timeout(seconds):
            facts = await _ended(api, namespace, job.metadata.name)
    except TimeoutError as error:
        raise CommandError(f"no result within {seconds:.0f}s; --timeout sets more") from error
    finally:
        await api.delete(JOBS, namespace, job.metadata.name, uid=job.metadata.uid)
    report = report_of(facts)
    if facts.complete:
        tell(f"{model.key}: {size(report.bytes)} are what was downloaded (revision {report.revision[:12]})")
        return 0
    remedy = f"kubectl delete pvc {location.claim} -n {namespace} downloads everything again"
    tell(f"{model.key}: {failure_cause(facts)}. Remedy: {remedy}, once no Pod uses it")
    return 1


def _location(model: Model) -> Location:
    """Return where the weights are. Raises CommandError if there is no manifest of them."""
    location = sources.locate(model)
    if location is None or not location.fetched or location.volume is not Volume.CLAIM:
        raise CommandError(
            f"{model.key} has no manifest: only what FlexInfer has downloaded to a PVC can be verified"
        )
    if model.status.cache is None or not model.status.cache.ready:
        raise CommandError(
            f"{model.key} is not downloaded completely: see flexinfer why {model.metadata.name}"
        )
    return location


async def _image(api: Cluster) -> str:
    """Return FlexInfer's own image: that of the prefetcher's Jobs; without a Deployment, the local node's."""
    try:
        deployment = await api.get(DEPLOYMENTS, SYSTEM_NAMESPACE, "flexinfer-prefetcher")
    except NotFoundError:
        return Settings().image
    variables = (v for c in deployment.spec.template.spec.containers for v in c.env)
    return next((v.value for v in variables if v.name == _IMAGE), Settings().image)


async def _ended(api: Cluster, namespace: str, name: str) -> JobFacts:
    """Wait for the end of a Job, and for the report of its Pod. Raises ApiError."""
    while True:
        job = await api.get(JOBS, namespace, name)
        pods = await api.list(PODS, namespace, labels=f"job-name={name}")
        facts = job_facts(job, pods.items)
        if facts.complete or facts.failed_reason:
            return msgspec.structs.replace(facts, waiting="")
        await asyncio.sleep(_EVERY_SECONDS)
