"""The certificates of the authorities that a download trusts: one file for every client in the process.

OpenSSL, and with it aiohttp and urllib, reads SSL_CERT_FILE; REQUESTS_CA_BUNDLE is what users of huggingface_hub have set for years
(https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables), and counts where the other is not set.
"""

from collections.abc import MutableMapping
from pathlib import Path

from flexinfer.api.reason import Reason
from flexinfer.prefetcher.download.failure import DownloadError

FILE, BUNDLE = "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"


def use(environment: MutableMapping[str, str]) -> None:
    """Have all clients trust what the environment names. Raises DownloadError if that does not exist."""
    name = next((name for name in (FILE, BUNDLE) if environment.get(name)), "")
    if not name:
        return
    path = Path(environment[name])
    if not path.exists():
        raise DownloadError(
            Reason.FETCH_FAILED,
            f"{path}, the certificates of the authorities to trust ({name}), does not exist. Remedy: create the ConfigMap of "
            "FLEXINFER_DOWNLOAD_CA_CONFIGMAP in this namespace, key ca.crt, or correct the variable",
        )
    if path.is_file():  # REQUESTS_CA_BUNDLE may be a folder, which OpenSSL has another variable for
        environment[FILE] = str(path)
    else:
        environment["SSL_CERT_DIR"] = str(path)
