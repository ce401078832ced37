"""API server and kubelet in one process: on one machine, Python and its libraries then take their memory once.

SIGTERM ends both and leaves the Pods' processes running, for the next kubelet to adopt; SIGUSR1 stops those first, and SIGUSR2 stops them and
ends nothing. It exits with 1 when the journal cannot be written.
"""

from functools import partial

from localkube.apiserver import server
from localkube.apiserver.server import ServerOptions
from localkube.kubelet import node
from localkube.kubelet.node import NodeOptions


def run(api: ServerOptions, kubelet: NodeOptions) -> int:
    """Run both until a signal; return the exit code."""
    return server.run(api, partial(node.serve, kubelet))
