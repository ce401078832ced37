"""localkube: a small Kubernetes API on one machine, with the controllers and the kubelet that make Pods run as processes.

It imports nothing of the product that it ships with. What belongs to its user is passed in: CustomResourceDefinitions, storage class,
image runtimes, certificates. README.md beside this file says what it serves and what it does not.
"""
