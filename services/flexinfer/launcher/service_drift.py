"""What is wrong with the Service of a Model, compared with what it should be. Pure."""

from collections.abc import Mapping

from flexinfer.api import kube
from flexinfer.api.groupversion import KIND
from flexinfer.api.labels import LITELLM_PREFIX, MODEL_LABEL, MODEL_UID_LABEL, SERVICE_LABELS_ANNOTATION
from flexinfer.launcher.manifests import Json


def owner_of(existing: kube.Service) -> str:
    """Return the uid of the Model of its name to which a Service belongs; empty if it belongs to none.

    Its owner reference says so, or else its labels: an edit of either leaves the other.
    """
    meta = existing.metadata
    for reference in meta.owner_references:
        if (reference.kind, reference.name) == (KIND, meta.name):
            return reference.uid
    return meta.labels.get(MODEL_UID_LABEL, "") if meta.labels.get(MODEL_LABEL) == meta.name else ""


def drift(existing: kube.Service, desired: Json) -> tuple[str, ...]:
    """Return the fields in which a Service is not as it should be; what others have added to it stays."""
    meta, desired_meta = existing.metadata, desired["metadata"]
    owner_uids = {reference.uid for reference in meta.owner_references}
    as_desired = {
        "labels": desired_meta["labels"].items() <= meta.labels.items(),
        "annotations": desired_meta["annotations"].items() <= meta.annotations.items()
        and not obsolete_annotations(existing, desired),
        "ownerReferences": desired_meta["ownerReferences"][0]["uid"] in owner_uids,
        **{f"spec.{name}": _holds(existing.spec.get(name), value) for name, value in desired["spec"].items()},
    }
    return tuple(name for name, is_so in as_desired.items() if not is_so)


def obsolete_annotations(existing: kube.Service, desired: Json) -> tuple[str, ...]:
    """Return FlexInfer's own annotations that no longer apply."""
    annotations = desired["metadata"]["annotations"]
    return tuple(name for name in existing.metadata.annotations if _managed(name) and name not in annotations)


def _holds(value: object, desired: object) -> bool:
    """Return whether a value is as wanted, beside what the API server has added to it."""
    if isinstance(desired, Mapping):
        return isinstance(value, Mapping) and all(
            _holds(value.get(key), part) for key, part in desired.items()
        )
    if isinstance(desired, list):
        return isinstance(value, list) and len(value) == len(desired) and all(map(_holds, value, desired))
    return value == desired


def _managed(annotation: str) -> bool:
    return annotation.startswith(f"{LITELLM_PREFIX}/") or annotation == SERVICE_LABELS_ANNOTATION
