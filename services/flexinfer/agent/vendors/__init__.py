"""Vendors: how the devices of each GPU vendor are probed.

One file a vendor; to add one, add a file with a `VENDOR`.

A node without the vendor's library, driver or devices is a result, never an error.
"""

import importlib
import pkgutil
from functools import cache

from flexinfer.agent.vendors.base import ProbeResult, Vendor

__all__ = ["ProbeResult", "Vendor", "all_vendors"]


@cache
def all_vendors() -> tuple[Vendor, ...]:
    """Return every vendor, by name."""
    modules = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
    vendors = [vendor for m in modules if isinstance(vendor := getattr(m, "VENDOR", None), Vendor)]
    return tuple(sorted(vendors, key=lambda vendor: vendor.name))
