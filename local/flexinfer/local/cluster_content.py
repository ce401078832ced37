"""The objects that the local API server holds before its first request: CRDs, namespaces, StorageClass and PVC; and the first Model to apply."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.local.storage import CLASS, MODELS_CLAIM
from localkube.apiserver.bootstrap import NAMESPACES, Content
from localkube.yaml_documents import documents

MANAGER = "flexinfer-local"


def crd_files() -> list[Traversable]:
    """Return the files of the CRDs: inside the package when installed from a wheel, in the repository's crds/ otherwise."""
    paths = [entry for entry in _folder("crds").iterdir() if entry.name.endswith(".yaml")]
    return sorted(paths, key=lambda entry: entry.name)


def example() -> Path:
    """Return the file of the small Model: as it is written in a checkout that is the current folder, else where it is installed."""
    here = Path("examples/local/smollm2.yaml")
    return here if here.exists() else Path(str(_folder("examples/local") / here.name))


def _folder(name: str) -> Traversable:
    package_folder = files("flexinfer.local") / name
    return package_folder if package_folder.is_dir() else Path(__file__).resolve().parents[3] / name


def content() -> Content:
    """Return the initial content."""
    return Content(
        definitions=[document for file in crd_files() for document in documents(file.read_text())],
        namespaces=(*NAMESPACES, SYSTEM_NAMESPACE),
        objects=[CLASS, MODELS_CLAIM],
        manager=MANAGER,
    )
