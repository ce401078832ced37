"""The local API: the part of the Kubernetes API that FlexInfer and plain kubectl use, in one process and one file.

It holds what `flexinfer up` runs on where there is no cluster, and, without its HTTP face, it is the world of the
simulation. It is not a cluster's API server: what it does not offer is a clear 404 or 415.
"""
