"""A real Kubernetes control plane on this machine: etcd, kube-apiserver, kube-controller-manager and kube-scheduler, as processes."""
