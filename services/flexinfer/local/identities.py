"""Identities: the names by which the parts of an instance know each other in certificates."""

NODE_NAME = "local"
"""The only node of an instance."""
API_SERVER = "kube-apiserver-kubelet-client"
"""The name that an API server shows to nodes (that of kubeadm's clusters)."""
