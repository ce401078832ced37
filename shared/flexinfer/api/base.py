"""The base of the parts of Kubernetes objects that FlexInfer reads or writes. Pure."""

import msgspec


class Resource(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    """A part of a Kubernetes object, reduced to the fields that FlexInfer reads or writes.

    The garbage collector leaves it alone (`gc`): what is made once and never changed is in no cycle, and thousands of Models are looked through otherwise.
    """
