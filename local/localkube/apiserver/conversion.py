"""Conversion between the served versions of a resource: strategy None, which changes the apiVersion only."""

from localkube.apiserver.requests import WatchEvent
from localkube.apiserver.resources import Object, Resource


def convert(res: Resource, obj: Object) -> Object:
    """Return an object in the version of a resource; the object itself if it is in that version already."""
    return obj if obj["apiVersion"] == res.api_version else {**obj, "apiVersion": res.api_version}


def convert_event(res: Resource, event: WatchEvent) -> WatchEvent:
    """Return an event with its object in the version of a resource."""
    obj = convert(res, event.obj)
    return event if obj is event.obj else WatchEvent(event.type, obj, event.revision)
