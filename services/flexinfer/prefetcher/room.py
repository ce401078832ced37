"""Room: how large the PVC of a cache is made for the files that it is for. Pure."""

from flexinfer.api.quantity import Quantity

UNKNOWN = -1
"""The size of files that were listed without it."""
WITHOUT_SIZES: Quantity = "50Gi"
_GIB = 2**30
_SPARE = 10
"""Percent of the files that are added, and at least 1 GiB: file systems keep some of a volume for themselves, and a download leaves some free."""


def of_files(size: int) -> Quantity:
    """Return the size of a PVC for files of so many bytes, in whole GiB."""
    if size <= 0:
        return WITHOUT_SIZES
    return f"{-(-(size + max(_GIB, size * _SPARE // 100)) // _GIB)}Gi"
