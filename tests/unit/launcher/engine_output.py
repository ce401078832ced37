"""What is said of a Model whose engine has ended with some output."""

import msgspec

from flexinfer.api import kube
from flexinfer.events.workload import pod_facts
from tests.unit.launcher.deciding import LOADING, decided, message
from tests.unit.launcher.models import a_start, holding, its_pod


def condition_of(backend: str, output: str, exit_code: int = 1) -> str:
    """Return the message of Ready of a Model whose engine has left this as its termination message."""
    ended = {"exitCode": exit_code, "reason": "Error", "message": output}
    container = {"name": "engine", "restartCount": 1, "lastState": {"terminated": ended}}
    raw = {"metadata": {"name": "m-0"}, "status": {"containerStatuses": [container]}}
    read = pod_facts(msgspec.convert(raw, kube.Pod))
    model = a_start(ready=LOADING)
    model = msgspec.structs.replace(model, spec=msgspec.structs.replace(model.spec, backend=backend))
    pod = its_pod(model, restarts=1, exit_code=exit_code, last=read.last, output=read.output)
    (action,) = decided(model, holding(model, pod))
    return message(action)
