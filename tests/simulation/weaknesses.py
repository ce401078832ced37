"""What the present code does not survive, in words: faults that show it are not drawn, laws do not judge it.

Each row is one flag. To hold the code to it, delete the row.
"""

from collections.abc import Mapping

WEAKNESSES: Mapping[str, str] = {}


def shown(weakness: str) -> bool:
    """Return whether a fault or law may show a weakness: the code is held to it."""
    return weakness not in WEAKNESSES
