"""Trees of /proc and /sys as real machines have them, for what reads devices."""

from pathlib import Path


def write(root: Path, files: dict[str, object]) -> None:
    """Write files below a folder, each with a newline at its end."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


def a_process(
    proc: Path, pid: int, name: str, *, started: int = 1000, cgroup: str = "0::/user.slice"
) -> None:
    """Add a process to a tree of /proc, or replace it."""
    fields = " ".join(["S", "1", *("0" for _ in range(17)), str(started), "0"])
    write(proc, {f"{pid}/stat": f"{pid} ({name}) {fields}", f"{pid}/comm": name, f"{pid}/cgroup": cgroup})
