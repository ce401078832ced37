"""A real node for tests: kubelet, containerd, Pod network, DNS and a registry on this machine, with FlexInfer deployed from its images."""
