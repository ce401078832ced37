"""`flexinfer litellm render`: the `model_list` of a LiteLLM proxy's config, from the annotations of the Models' Services.

LiteLLM looks for no Services itself. Every entry points at FlexInfer's proxy, so that a request still starts its Model: names of one
Model at that Model's own path, labels at the path that is common to all, where the best Model that has the label serves it.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from flexinfer.api.kube import Service
from flexinfer.api.labels import LITELLM_PREFIX, MODEL_UID_LABEL, SERVICE_LABELS_ANNOTATION
from flexinfer.cli import reach
from flexinfer.cli.target import target_arguments
from flexinfer.runtime.kubernetes.api import SERVICES

_OWN_PATH = "/model/"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A name, the namespace in which it is one, what serves it, and where; `model` is empty for a label, which several may serve."""

    name: str
    namespace: str
    model: str
    uid: str
    api_base: str


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to do, and where the API server and the proxy are."""
    parser.add_argument("action", choices=["render"], help="print a config with the Models as `model_list`")
    parser.add_argument("-n", "--namespace", default="", help="only the Models of one namespace")
    parser.add_argument("--proxy", metavar="URL", default="", help="FlexInfer's proxy as LiteLLM reaches it")
    parser.add_argument(
        "--key-variable",
        metavar="NAME",
        default="OPENAI_API_KEY",
        help="variable of LiteLLM's environment that holds the proxy's key (default: OPENAI_API_KEY)",
    )
    target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print the config; what is left out is said on stderr. Raises ApiError."""
    import yaml  # noqa: PLC0415 -- only here

    services = asyncio.run(_read(options))
    entries, left_out = choose([entry for service in services for entry in entries_of(service)])
    for line in left_out:
        print(line, file=sys.stderr)
    if not entries:
        where = f" in namespace {options.namespace}" if options.namespace else ""
        print(f"no Model{where} has spec.litellm, so model_list is empty; add it to a Model", file=sys.stderr)
    config = {"model_list": [rendered(e, name, options.proxy, options.key_variable) for name, e in entries]}
    print(yaml.safe_dump(config, sort_keys=False), end="")
    return 0


async def _read(options: argparse.Namespace) -> Sequence[Service]:
    async with reach.api(options) as api:
        listing = await api.list(SERVICES, options.namespace)
    return sorted(listing.items, key=lambda service: service.metadata.key)


def entries_of(service: Service) -> Iterator[Entry]:
    """Yield the names of a Model, from the annotations of its Service; none of a Service without them."""
    meta, annotations = service.metadata, service.metadata.annotations
    model_name, api_base = _value(annotations, "served-model"), _value(annotations, "api-base")
    if not model_name or not api_base:
        return
    labels = _split(annotations.get(SERVICE_LABELS_ANNOTATION, ""))
    uid = meta.labels.get(MODEL_UID_LABEL, meta.uid)
    names = [model_name, *_split(_value(annotations, "aliases")), _value(annotations, "copilot-model")]
    for name in dict.fromkeys(name for name in names if name and name not in labels):
        yield Entry(name=name, namespace=meta.namespace, model=meta.name, uid=uid, api_base=api_base)
    shared = api_base.partition(_OWN_PATH)[0] + "/v1"
    for label in labels:
        yield Entry(name=label, namespace=meta.namespace, model="", uid="", api_base=shared)


def choose(entries: Sequence[Entry]) -> tuple[list[tuple[str, Entry]], list[str]]:
    """Return each entry under the name that LiteLLM offers it by, and a sentence for each name that is left out.

    LiteLLM spreads the requests of one name over all its entries, and a name must mean one thing: one that several namespaces have
    is offered as `<namespace>/<name>`, one that means two Models of a namespace not at all.
    """
    unique = list(dict.fromkeys(entries))
    selection, left_out = [], []
    for entry in unique:
        same = [e for e in unique if e.name == entry.name]
        rivals = [e for e in same if e.namespace == entry.namespace]
        if len(rivals) == 1:
            elsewhere = len(same) > 1
            selection.append((f"{entry.namespace}/{entry.name}" if elsewhere else entry.name, entry))
        elif entry is rivals[0]:
            models = " and ".join(e.model or "a label" for e in rivals)
            left_out.append(
                f"{entry.name} means {models} in namespace {entry.namespace} and is left out; change one of them"
            )
    return selection, left_out


def rendered(entry: Entry, name: str, proxy: str, key_variable: str) -> dict[str, Any]:
    """Return an entry as LiteLLM's config has it (https://docs.litellm.ai/docs/proxy/configs).

    `proxy` replaces what the annotation says of the proxy's address, unless it is empty. `id` stays the same as long as the Model does.
    """
    base = entry.api_base
    if proxy:
        _, slash, path = base.partition(_OWN_PATH)
        base = proxy.rstrip("/").removesuffix("/v1") + (slash + path if slash else "/v1")
    return {
        "model_name": name,
        "litellm_params": {
            "model": f"openai/{entry.model or f'{entry.namespace}/{entry.name}'}",
            "api_base": base,
            "api_key": f"os.environ/{key_variable}",
        },
        "model_info": {"id": f"{entry.uid or entry.namespace}/{entry.name}"},
    }


def _value(annotations: dict[str, str], name: str) -> str:
    return annotations.get(f"{LITELLM_PREFIX}/{name}", "")


def _split(text: str) -> list[str]:
    return [part for part in text.split(",") if part]
