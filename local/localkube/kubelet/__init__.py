"""The kubelet of localkube: runs the Pods bound to its node as ordinary processes of the current user.

It talks HTTP to an API server, the local one or a real one. It isolates nothing: a Pod has a loopback address, a folder and a session
of its own, and sees the same machine as its user. No sidecar containers, postStart hooks, exec, attach or port-forward. Linux only.
"""
