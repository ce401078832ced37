"""One machine, no cluster: a local API, a local node, and the supervisor that keeps everything running."""
