"""The Kubernetes API: the interface that components use, and the HTTP client behind it."""
