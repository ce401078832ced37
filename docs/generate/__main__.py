"""The reference pages that are generated from code: reasons, subjects, settings, backends, Model fields.

`make generate` writes them; a contract test fails while one is stale.
"""

import sys
from pathlib import Path

from backend_pages import backends_page
from code_pages import cli_page, conditions_page, metrics_page, rights_page, settings_page, subjects_page
from crd_pages import lease_page, model_page, shared_group_page

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "reference"
MADE = "<!-- made by docs/generate; do not edit -->\n\n"


def pages() -> dict[Path, str]:
    """Return every generated page by its path."""
    return {
        FOLDER / "conditions.md": MADE + conditions_page(),
        FOLDER / "subjects.md": MADE + subjects_page(),
        FOLDER / "settings.md": MADE + settings_page(),
        FOLDER / "backends.md": MADE + backends_page(),
        FOLDER / "model.md": MADE + model_page(),
        FOLDER / "sharedgroup.md": MADE + shared_group_page(),
        FOLDER / "gpulease.md": MADE + lease_page(),
        FOLDER / "rights.md": MADE + rights_page(),
        FOLDER / "cli.md": MADE + cli_page(),
        FOLDER / "metrics.md": MADE + metrics_page(),
    }


def main() -> None:
    """Write the pages."""
    for path, text in pages().items():
        path.write_text(text)
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
