"""`python -m flexinfer.local.kubernetes API... -- NODE...`: localkube's API server and kubelet in one process.

What precedes `--` are the arguments of `flexinfer.local.apiserver`, what follows it those of `flexinfer.local.kubelet`.
"""

import logging
import sys

from flexinfer.local import apiserver, kubelet
from flexinfer.runtime import event_loop
from localkube import single_process


def main(arguments: list[str]) -> int:
    """Run both until a signal; return the exit code."""
    at = arguments.index("--")
    return single_process.run(apiserver.options(arguments[:at]), kubelet.options(arguments[at + 1 :]))


if __name__ == "__main__":
    event_loop.install()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sys.exit(main(sys.argv[1:]))
