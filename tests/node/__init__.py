"""A real node for tests: kubelet, containerd, pod network, DNS and a registry on this machine, and the product on it from its image."""
