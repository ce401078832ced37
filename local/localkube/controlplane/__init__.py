"""Programs of a real control plane (etcd, kube-apiserver, kube-controller-manager, kube-scheduler): found on this machine or built."""
