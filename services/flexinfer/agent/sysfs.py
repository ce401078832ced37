"""What sysfs says: single values, and which GPUs are on the PCI bus.

In a container /sys shows the devices of the node, whether or not the container may use them.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

SYS = Path("/sys")
_DISPLAY_CLASSES = ("0x03", "0x12")
"""Display controllers and processing accelerators, by the first byte of the PCI class."""


class PciDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU on the PCI bus; `driver` is the kernel module that is bound to it, empty if none is."""

    address: str
    driver: str = ""


def text(path: Path) -> str:
    """Return the text of a file; empty if it cannot be read: an attribute that a kernel or device lacks."""
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace").strip()
    return ""


def number(path: Path, base: int = 10) -> int | None:
    """Return the number in a file; None if it cannot be read or holds none."""
    with contextlib.suppress(ValueError):
        return int(text(path), base)
    return None


def entries(folder: Path, pattern: str) -> list[Path]:
    """Return what a folder has by a pattern, by name; nothing if there is no such folder."""
    with contextlib.suppress(OSError):
        return sorted(folder.glob(pattern))
    return []


def gpus_on_pci(root: Path, vendor: str) -> Iterator[PciDevice]:
    """Yield the GPUs of a PCI vendor such as `0x10de`, with or without a driver."""
    for folder in entries(root / "bus/pci/devices", "*"):
        if text(folder / "vendor") == vendor and text(folder / "class").startswith(_DISPLAY_CLASSES):
            yield PciDevice(address=folder.name, driver=_driver(folder))


def described(devices: Iterable[PciDevice]) -> str:
    """Return which GPUs there are and what is bound to them, for a message; empty without any."""
    return ", ".join(f"{d.address} ({f'driver {d.driver}' if d.driver else 'no driver'})" for d in devices)


def _driver(folder: Path) -> str:
    with contextlib.suppress(OSError):
        return (folder / "driver").resolve(strict=True).name
    return ""
