"""A real node for tests: kubelet, containerd, Pod network, DNS and registry, with FlexInfer from its images."""
