"""`python -m flexinfer.prefetcher.prompts`: makes the folder of a Model's prompt caches, and keeps it within its room.

An init container of the engine: it runs as the engine's user, so that no other user reads what people asked.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)
_MB = 2**20


def prepare(folder: Path, room: int) -> Sequence[Path]:
    """Make the folder, readable by its owner alone, and delete the oldest files until the rest takes `room` bytes at most.

    Returns what was deleted. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    files = sorted(
        (file for file in folder.iterdir() if file.is_file()), key=lambda file: file.stat().st_mtime
    )
    deletions: list[Path] = []
    remaining = sum(file.stat().st_size for file in files)
    for file in files:
        if remaining <= room:
            break
        remaining -= file.stat().st_size
        file.unlink()
        deletions.append(file)
    return deletions


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare the folder; a claim that cannot be written costs the cache and not the start."""
    parser = argparse.ArgumentParser(prog="flexinfer.prefetcher.prompts")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--room-mb", type=int, required=True)
    options = parser.parse_args(arguments)
    try:
        deletions = prepare(options.folder, options.room_mb * _MB)
    except OSError as error:
        log.warning("prompt caches are not kept: %s", error)
        return
    log.info("%d prompt caches deleted, the oldest first", len(deletions))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
