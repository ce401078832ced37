"""Vendors: how the devices of one maker are asked, one file each, found by being here.

A file of this package holds one `VENDOR`. No library, no driver and no device are facts, not errors.
"""

import importlib
import pkgutil
from functools import cache

from flexinfer.agent.vendors.base import Found, Vendor

__all__ = ["Found", "Vendor", "all_vendors"]


@cache
def all_vendors() -> tuple[Vendor, ...]:
    """Return every vendor, by name."""
    modules = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
    found = [vendor for m in modules if isinstance(vendor := getattr(m, "VENDOR", None), Vendor)]
    return tuple(sorted(found, key=lambda vendor: vendor.name))
