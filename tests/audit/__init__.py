"""Run after the cluster tests: compares the audit logs of their API servers with the rights that the manifests grant."""
