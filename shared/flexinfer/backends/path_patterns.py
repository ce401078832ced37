"""Patterns of the paths that a backend serves to clients. Pure."""


def matches(pattern: str, path: str) -> bool:
    """Return whether a path is the pattern's own or, where that ends in `/*`, below it; a step up leads nowhere."""
    if not pattern.endswith("/*"):
        return path == pattern
    below = path.removeprefix(pattern[:-1])
    return below != path and bool(below) and ".." not in below.split("/")
