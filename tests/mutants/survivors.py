"""survivors.md: the drawn mutants that no test notices, with the reasons."""

from collections.abc import Iterator, Mapping
from pathlib import Path

SURVIVORS = Path(__file__).parent / "survivors.md"


def listed(text: str) -> dict[str, str]:
    """Return the survivors of a table with their reasons: rows `| component/module: ... | reason |`."""
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    cells = [line.removeprefix("| ").removesuffix("|").rpartition(" | ") for line in rows]
    return {name.strip(): reason.strip() for name, _, reason in cells}


def differences(survivors: set[str], reasons: Mapping[str, str]) -> Iterator[str]:
    """Yield what the table lacks or has too much."""
    yield from (
        f"survives, and is not in {SURVIVORS.name}: {name}" for name in sorted(survivors - {*reasons})
    )
    yield from (f"listed, and does not survive: {name}" for name in sorted({*reasons} - survivors))
    yield from (f"listed without a reason: {name}" for name, reason in reasons.items() if not reason)
