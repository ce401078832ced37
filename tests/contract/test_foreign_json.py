"""JSON of others is read in one way, which raises one error: bytes that are not UTF-8 and what is nested too deep once ended a service."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READERS = {("msgspec", "json", "decode"), ("json", "loads"), ("json", "load")}
REASONS = {
    "shared/flexinfer/api/foreign_json.py": "the one way",
    "shared/flexinfer/runtime/kubernetes/objects.py": "objects of the API server: what is nested too deep is null",
    "shared/flexinfer/runtime/kubernetes/kubeconfig_files.py": "the user's own file",
    "shared/flexinfer/runtime/nats/connection.py": "replies of the NATS server",
    "shared/flexinfer/runtime/nats/state_reader.py": "replies of the NATS server",
    "shared/flexinfer/runtime/nats/state_writer.py": "replies of the NATS server",
    "shared/flexinfer/backends/options.py": "a config that Accepted has read before",
    "services/flexinfer/agent/vendors/simulated.py": "a file that the instance writes",
    "services/flexinfer/prefetcher/check.py": "a variable of its own manifest",
    "services/flexinfer/prefetcher/download/__main__.py": "an argument of its own manifest",
    "services/flexinfer/prefetcher/headers.py": "whatever cannot be read has no figures: its callers take any error",
    "services/flexinfer/prefetcher/safetensors.py": "the same",
}
"""Modules that read JSON otherwise, and why they may."""


def _dotted(node: ast.expr) -> tuple[str, ...]:
    if isinstance(node, ast.Attribute):
        return (*_dotted(node.value), node.attr)
    return (node.id,) if isinstance(node, ast.Name) else ()


def _readers() -> Iterator[str]:
    """Yield the modules that read JSON by a library's own function; a command that fails ends itself alone."""
    for root in ("shared/flexinfer", "services/flexinfer"):
        for path in sorted((ROOT / root).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
            if "/cli/" not in name and any(_dotted(call.func) in READERS for call in calls):
                yield name


def test_what_others_wrote_is_read_in_one_way() -> None:
    """A new module uses `api.foreign_json`, or says here whose JSON it reads."""
    assert list(_readers()) == sorted(REASONS, key=lambda name: (not name.startswith("shared"), name))
