"""The controllers of localkube: what kube-controller-manager, kube-scheduler and apiextensions do for the kinds served here.

Each reads and writes the store directly, in the API server's process. None waits or reads a clock by itself; `manager` calls them.
"""
