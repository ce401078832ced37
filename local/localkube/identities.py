"""The names by which the processes of a cluster know each other in certificates, as kubeadm gives them."""

API_SERVER = "kube-apiserver-kubelet-client"
"""The name in the client certificate that an API server shows to kubelets."""
