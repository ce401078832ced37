"""Run after the cluster tests: compares their audit logs with the rights that the manifests grant."""
