"""Vendors: how the GPUs of one maker are probed, one file each, found because the file is here.

A file of this package holds one `VENDOR`. A missing library, driver or device is a fact, not an error.
"""

from functools import cache

from flexinfer import plugins
from flexinfer.agent.vendors.base import Found, Vendor

__all__ = ["Found", "Vendor", "all_vendors"]


@cache
def all_vendors() -> tuple[Vendor, ...]:
    """Return every vendor, sorted by name."""
    return tuple(sorted(plugins.discover(__name__, "VENDOR", Vendor), key=lambda vendor: vendor.name))
