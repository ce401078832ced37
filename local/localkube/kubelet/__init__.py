"""The local node: a small kubelet that runs the Pods bound to it as ordinary processes of the current user.

It speaks only HTTP to an API server, the local one or a real one. It isolates nothing: a Pod has its own loopback address, its own
folder and its own session, and sees the same machine as its user. Linux only.
"""
