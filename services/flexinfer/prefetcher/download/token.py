"""The token of a hub or registry: read from the files of a mounted Secret, and named in messages by that Secret alone."""

from pathlib import Path
from typing import NamedTuple

from flexinfer.api.reason import Reason
from flexinfer.prefetcher.download.failure import DownloadError

KEYS = ("token", "HF_TOKEN")
"""Keys of the Secret, the first that exists."""
_LONGEST = 4096


class Token(NamedTuple):
    """A token, empty if there is none, and the Secret that has it or may have it."""

    value: str = ""
    secret: str = ""

    @property
    def how(self) -> str:
        """With what a request was made, for people."""
        return f"with the token of the Secret {self.secret}" if self.value else "without a token"

    @property
    def remedy(self) -> str:
        """Where a token belongs, for people."""
        if not self.secret:
            return "put a token into a Secret, key token, and name that in spec.sourceSecretRef.name"
        return f"put a token that may read it into the Secret {self.secret}, key token"


def read(folder: Path, secret: str, *, required: bool = False) -> Token:
    """Return the token of the Secret that is mounted at a folder. Raises DownloadError if it is required and missing, or is none."""
    value = next((text for key in KEYS if (text := _text(folder / key))), "")
    if value and not (value.isascii() and value.isprintable() and " " not in value):
        raise DownloadError(
            Reason.SECRET_NOT_FOUND,
            f"the Secret {secret} holds {len(value)} characters that are not a token: a token is one word. "
            "Remedy: write it again, without quotes and line breaks",
        )
    if not value and required:
        raise DownloadError(
            Reason.SECRET_NOT_FOUND,
            f"the Secret {secret} of spec.sourceSecretRef does not exist in the Model's namespace, or has neither the key "
            f"{KEYS[0]} nor {KEYS[1]}. Remedy: kubectl create secret generic {secret} --from-literal=token=...",
        )
    return Token(value, secret)


def _text(path: Path) -> str:
    try:
        with path.open() as file:
            return file.read(_LONGEST).strip()
    except (OSError, ValueError):
        return ""
