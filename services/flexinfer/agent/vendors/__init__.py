"""Vendors: how the devices of each GPU vendor are probed.

One file a vendor; to add one, add a file with a `VENDOR`. A node without the library, driver or devices is
a result, never an error.
"""

from functools import cache

from flexinfer import plugins
from flexinfer.agent.vendors.base import ProbeResult, Vendor

__all__ = ["ProbeResult", "Vendor", "all_vendors"]


@cache
def all_vendors() -> tuple[Vendor, ...]:
    """Return every vendor, sorted by name."""
    return tuple(sorted(plugins.discover(__name__, "VENDOR", Vendor), key=lambda vendor: vendor.name))
