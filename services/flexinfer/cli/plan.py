"""`flexinfer plan -f FILE`: where the Models of a file would go if they were applied now.

The placer's own decision on what the components observe at present, after a dry run at the API server; nothing is applied and nothing
changes. Of several Models in a file each is planned as if those before it ran already. Whether a file is on its volume is not looked for.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec
import yaml

from flexinfer.api.groupversion import KIND
from flexinfer.api.model import Model
from flexinfer.cli import reach
from flexinfer.cli.admission import Document, answers
from flexinfer.cli.errors import CommandError
from flexinfer.cli.observed import observed_state
from flexinfer.cli.planning import Plan, plan, with_plan
from flexinfer.cli.target import target_arguments
from flexinfer.runtime.clock import monotonic
from flexinfer.state.observed import ObservedState

DOES_NOT_FIT = 3
"""Exit status if one of the Models fits nowhere now; 1 is that of an error, 2 that of a wrong command line."""
UNKNOWN = "its memory is not known before its weights are complete, so it was not compared; state spec.gpu.vramEstimateMB to do so"

UNASKED = "the API server did not check these Models, nor whether their PVCs exist: {}"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the file, the namespace and --state."""
    parser.add_argument(
        "-f", "--filename", required=True, metavar="FILE", help="YAML with Models; - reads standard input"
    )
    parser.add_argument("-n", "--namespace", default="default", help="of Models that name none")
    target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print the plan of each Model; the exit status is 0 if all fit, else 3. Raises CommandError."""
    documents = documents_in(options.filename, options.namespace)
    admission = asyncio.run(answers(options, documents))
    with reach.nats(options) as server:
        state = asyncio.run(observed_state(server))
    if not state.nodes:
        raise CommandError(
            "no node is known: check that the watcher runs (`flexinfer services`, or kubectl get nodes)"
        )
    plans = planned(state, [document.model for document in documents], monotonic(), admission.refusals)
    print("\n".join(line for each in plans for line in described(each)))
    if admission.unasked:
        print(UNASKED.format(admission.unasked), file=sys.stderr)
    return 0 if all(each.fits for each in plans) else DOES_NOT_FIT


def documents_in(filename: str, namespace: str) -> list[Document]:
    """Return the Models of a file. Raises CommandError if it has none, or something else."""
    try:
        text = sys.stdin.read() if filename == "-" else Path(filename).read_text()
        documents = [document for document in yaml.safe_load_all(text) if document]
    except OSError as error:
        raise CommandError(f"{filename} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CommandError(f"{filename} is not YAML: {' '.join(str(error).split())}") from error
    if not documents:
        raise CommandError(f"{filename} holds no Model")
    return [_read(filename, index, document, namespace) for index, document in enumerate(documents, start=1)]


def _read(filename: str, index: int, document: object, namespace: str) -> Document:
    fields = document if isinstance(document, dict) else {}
    kind = fields.get("kind")
    if kind != KIND:
        raise CommandError(
            f"{filename}: document {index} is {kind or 'not an object'}; plan reads Models alone"
        )
    try:
        model = msgspec.convert(fields | {"status": {}}, Model)  # a plan is made from the spec alone
    except msgspec.ValidationError as error:
        raise CommandError(f"{filename}: document {index}: {error}") from error
    if not model.metadata.name:
        raise CommandError(f"{filename}: document {index} has no metadata.name; give the Model one")
    metadata = msgspec.structs.replace(model.metadata, namespace=model.metadata.namespace or namespace)
    return Document(body=fields, model=msgspec.structs.replace(model, metadata=metadata))


def planned(
    state: ObservedState,
    models: Sequence[Model],
    now: float,
    refusals: Mapping[str, str] = MappingProxyType({}),
) -> list[Plan]:
    """Return the plans of several Models, one after the other; one with a refusal, by its key, is placed nowhere."""
    plans: list[Plan] = []
    for model in models:
        refusal = refusals.get(model.key)
        plans.append(Plan(key=model.key, message=refusal) if refusal else plan(state, model, now))
        placement = plans[-1].placement
        if placement is not None:
            state = with_plan(state, model, placement)
    return plans


def described(plan: Plan) -> Iterator[str]:
    """Yield a plan as lines."""
    if plan.placement is not None:
        without = (
            f" without the holders of its shared group ({', '.join(plan.holders)})" if plan.holders else ""
        )
        yield f"✓ {plan.key}: {plan.message}; {plan.placement.reason}{without}"
        yield from _devices(plan)
        if plan.claimed:
            yield f"    {plan.claimed} is looked for once the Model is applied (condition Cached), not by plan"
        if plan.devices and not plan.placement.footprint_mb:
            yield f"    {UNKNOWN}"
        if plan.elsewhere:
            yield "  not on:"
        yield from _nodes(plan)
        return
    cause, _, remedy = plan.message.partition(". Remedy: ")
    yield f"✗ {plan.key}: {cause.partition(': ')[0] if plan.elsewhere else cause}"
    yield from _nodes(plan)
    if remedy:
        yield f"  Remedy: {remedy}"


def _devices(plan: Plan) -> Iterator[str]:
    for device in plan.devices:
        card = f"{device.name} ({device.architecture or device.vendor})"
        yield f"    {device.uuid}  {card}, {device.free_mb} of {device.total_mb} MiB free now"
    if plan.sharing:
        yield f"    {plan.sharing}"


def _nodes(plan: Plan) -> Iterator[str]:
    width = max((len(other.node) for other in plan.elsewhere), default=0)
    for other in plan.elsewhere:
        leaving = f"; it would fit if {' and '.join(other.leaving)} left" if other.leaving else ""
        yield f"    {other.node:<{width}}  {other.reason}{leaving}"
