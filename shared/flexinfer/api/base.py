"""The base of the parts of Kubernetes objects that FlexInfer reads or writes. Pure."""

import msgspec


class Resource(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A part of a Kubernetes object, reduced to the fields that FlexInfer reads or writes."""
