"""The watcher: the one component that watches Kubernetes. It also owns Accepted and the phase."""
