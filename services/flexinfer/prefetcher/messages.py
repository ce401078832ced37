"""The prefetcher's messages: state, cause with numbers, remedy. Pure."""

from flexinfer.api.conditions import clause
from flexinfer.api.model import Model
from flexinfer.events.workload import JobFacts
from flexinfer.prefetcher.plan import CHECK, FETCH, LIST, Plan
from flexinfer.sources import MOUNT

WAITING_FOR_ACCEPTED = "waiting for Accepted"
IN_MEMORY = "; in memory: "
"""Between what a message says of weights that are complete, and what it says of the page cache."""
_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
_MINUTE = 60
_JOBS = {CHECK: "check", FETCH: "download", LIST: "listing"}


def waiting_for_placed(plan: Plan) -> str:
    """Return the message of a Model whose Job has no node yet."""
    return f"waiting for Placed: the {_JOBS[plan.kind]} runs on the model's node"


def running(model: Model, plan: Plan, job: JobFacts | None = None) -> str:
    """Return the message of a Job that has not ended; None: it was created just now."""
    content, container = _content(model, plan), _container(plan)
    state = {
        LIST: f"asking how large the files of {content} are, before {container} is created for them",
        FETCH: f"downloading {content} to {container}",
        CHECK: f"checking that {container} contains {content}",
    }[plan.kind]
    return state if job is None or not job.waiting else f"{state}; {_waiting(model, job)}"


def progress(done: int, total: int, eta: int) -> str:
    """Return how far a download is, such as `37% of 4.9 GB, 2m left`; sizes are bytes, `eta` is in seconds, 0 if unknown."""
    if done >= total:
        return size(total) if total else ""
    remaining = f", {_duration(eta)} left" if eta else ""
    return f"{100 * done // total}% of {size(total)}{remaining}"


def size(number: int) -> str:
    """Return a number of bytes as people say it: 4.9 GB, 812 MB, 3 kB."""
    if number >= _UNITS[0][0]:
        return f"{number / _UNITS[0][0]:.1f} {_UNITS[0][1]}"
    unit, name = next(((unit, name) for unit, name in _UNITS if number >= unit), (1, "bytes"))
    return f"{round(number / unit)} {name}"


def _duration(seconds: int) -> str:
    minutes = -(-seconds // 60)
    if seconds < _MINUTE:
        return f"{seconds}s"
    return f"{minutes}m" if minutes < _MINUTE else f"{minutes // 60}h {minutes % 60}m"


def queued(node: str, running: int) -> str:
    """Return the message of a Model whose check waits for others on its node."""
    return f"{running} checks run on node {node}; this one starts when one of them has ended"


def remade(state: str, plan: Plan) -> str:
    """Return the message of a Job that runs because the PVC of the cache was deleted."""
    return (
        f"{state}; PVC {plan.pvc} was deleted and {'is' if plan.kind == LIST else 'has been'} created again"
    )


def _waiting(model: Model, job: JobFacts) -> str:
    """Return what a Job's Pod waits for.

    The kubelet reports a volume that cannot be mounted only as an Event of the Pod, so the message says
    where to look.
    """
    cause = f"its Pod waits: {clause(job.waiting)}"
    if not job.waiting.startswith("ContainerCreating"):
        return cause
    return (
        f"{cause}; if that lasts: kubectl describe pods -n {model.metadata.namespace} -l job-name={job.name}"
    )


def contains(model: Model, plan: Plan, size: int) -> str:
    """Return the message of weights that are complete; `size` is in bytes, 0 if unknown."""
    amount = f" ({size:,} bytes)" if size else ""
    return f"{_container(plan)} contains {_content(model, plan)}{amount}"


def code(unsafe: str, left_out: str) -> str:
    """Return what is added to that message about files that can run code; both arguments name such files, or none."""
    if unsafe:
        return f"; with {unsafe}, as spec.config.allowUnsafeFormats allows"
    return f"; left out: {left_out}" if left_out else ""


def not_found(model: Model, plan: Plan) -> str:
    """Return the cause of a check that found nothing, with what to do."""
    remedy = "add the file" if plan.pvc else "fix the image"
    return f"{_container(plan)} does not contain {_content(model, plan)}; correct spec.source, or {remedy}"


def unchecked(plan: Plan, cause: str) -> str:
    """Return the message of a path in an image that has no shell to look for it."""
    path = f"{plan.location.path} is a path inside image {plan.image}"
    return f"{path}, which could not be checked before the start: {clause(cause)}"


def failed(plan: Plan, cause: str, retry_seconds: float) -> str:
    """Return the message of a Job that failed and is created again."""
    return f"{_JOBS[plan.kind]} failed: {clause(cause)}; retrying {retry_seconds:.0f}s after the failure"


def pvc_not_found(model: Model, plan: Plan) -> str:
    """Return the message of a PVC that the spec names and that does not exist."""
    namespace = model.metadata.namespace
    field = "spec.cache.pvcName" if plan.location.fetched else "spec.source"
    return (
        f"PersistentVolumeClaim {plan.pvc} does not exist in namespace {namespace}. "
        f"Remedy: create it, or name another one in {field} (kubectl get pvc -n {namespace})"
    )


def pvc_lost(model: Model, plan: Plan) -> str:
    """Return the message of a PVC whose volume is gone."""
    remedy = "weights are downloaded again" if plan.location.fetched else "create it again, with the weights"
    return (
        f"PersistentVolumeClaim {plan.pvc} is Lost: its volume does not exist any more. "
        f"Remedy: kubectl delete pvc {plan.pvc} -n {model.metadata.namespace}; {remedy}"
    )


def pvc_pending(model: Model, plan: Plan, storage_class: str, waiting: str) -> str:
    """Return the message of a PVC that its StorageClass has made no volume for in time; `waiting` is what the Pod says."""
    cause = f"; its Pod waits: {clause(waiting)}" if waiting else ""
    other = "; or set spec.cache.storageClass and delete the PVC" if plan.location.owned else ""
    return (
        f"PersistentVolumeClaim {plan.pvc} is Pending: StorageClass {storage_class} has made no volume for it within a minute{cause}. "
        f"Remedy: fix what the provisioner's Events name (kubectl describe pvc {plan.pvc} -n {model.metadata.namespace}){other}; "
        "the Job continues by itself"
    )


def pvc_refused(model: Model, plan: Plan, storage_class: str, cause: str) -> str:
    """Return the message of a PVC that its StorageClass makes no volume for; `cause` is what the provisioner wrote on it."""
    other = "; or set spec.cache.storageClass and delete the PVC" if plan.location.owned else ""
    return (
        f"PersistentVolumeClaim {plan.pvc} is Pending: StorageClass {storage_class} makes no volume for it: {clause(cause)}. "
        f"Remedy: fix that (kubectl describe pvc {plan.pvc} -n {model.metadata.namespace}){other}; the Job continues by itself"
    )


def no_default_class(plan: Plan) -> str:
    """Return the message of a PVC that no StorageClass makes a volume for."""
    field = "set spec.cache.storageClass and delete the PVC" if plan.location.owned else "bind it to a volume"
    return (
        f"PersistentVolumeClaim {plan.pvc} is Pending: it has no StorageClass, and the cluster no default one. "
        f"Remedy: mark a StorageClass as the default (kubectl get sc), or {field}"
    )


def no_storage_class(name: str) -> str:
    """Return the message of a StorageClass that the spec names and that does not exist."""
    return f"StorageClass {name} does not exist. Remedy: create it, or correct spec.cache.storageClass (kubectl get sc)"


def pvc_deleting(plan: Plan) -> str:
    """Return the message of a PVC that is being deleted."""
    next_step = "a new one is created then" if plan.location.owned else "create it again then"
    return f"PersistentVolumeClaim {plan.pvc} is being deleted, and goes when no Pod uses it any more; {next_step}"


def pvc_name_taken(plan: Plan) -> str:
    """Return the message of a PVC with the name of this Model's cache that belongs to something else."""
    return (
        f"PersistentVolumeClaim {plan.pvc} exists and does not belong to this model. "
        "Remedy: set spec.cache.pvcName to use it, or rename the model"
    )


def job_name_taken(name: str) -> str:
    """Return the message of a Job with the name of this Model's Job that belongs to something else."""
    return f"Job {name} exists and does not belong to this model. Remedy: delete it, or rename the model"


def rejected(plan: Plan, error: str) -> str:
    """Return the message of a PVC or Job that the API server refuses to create; `error` is its reply."""
    objects = "the PVC or the Job" if plan.location.owned else "the Job"
    return f"the API server rejected {objects}: {clause(error)}; retrying within 5m"


def kept(model: Model) -> str:
    """Return what is added to the message of complete weights that are in a node's memory too."""
    return f"{IN_MEMORY}kept on node {model.assigned_node}"


def not_kept(model: Model, job: JobFacts, cause: str) -> str:
    """Return what is added where the Job that would keep them does not run."""
    request = size(model.status.cache.bytes) if model.status.cache is not None else "the size of the weights"
    return (
        f"{IN_MEMORY}not kept, the engine starts from the disk: the Pod of Job {job.name} requests {request} on node {model.assigned_node} and does not "
        f"run: {clause(cause)}. Remedy: free memory on the node (kubectl describe node {model.assigned_node}), or set "
        "spec.cache.strategy: SharedPVC"
    )


def _container(plan: Plan) -> str:
    return f"PVC {plan.pvc}" if plan.pvc else f"image {plan.image}"


def _content(model: Model, plan: Plan) -> str:
    """Return what is looked for, as the user names it: a repository, a path on the PVC or in the image."""
    if plan.kind in (FETCH, LIST):
        return model.spec.source.partition("://")[2]
    if plan.pvc:
        return plan.location.path.removeprefix(f"{MOUNT}/") if plan.location.path != MOUNT else "files"
    return plan.location.path
