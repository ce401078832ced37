"""Names in every installation: the namespace, the Service of the proxy, the components' image. Pure."""

SYSTEM_NAMESPACE = "flexinfer-system"
"""Namespace of the components; Models are refused in it."""
PROXY_SERVICE = "flexinfer-proxy"
CLIENT_ROLE = "flexinfer-client"
"""The Role that deploy/ has for people who use `flexinfer --context`."""
IMAGE = "ghcr.io/flexinfer/flexinfer"
"""The components' image, without a tag. The local kubelet runs it with the interpreter of `flexinfer up`."""
