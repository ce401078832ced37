"""Names that every installation has: its namespace, the proxy's Service, the image of the components. Pure."""

SYSTEM_NAMESPACE = "flexinfer-system"
"""Namespace of the components; Models are refused in it."""
PROXY_SERVICE = "flexinfer-proxy"
IMAGE = "ghcr.io/flexinfer/flexinfer"
"""The components' image, without a tag. The local kubelet runs it with the interpreter of `flexinfer up`."""
