"""The watcher: the one component that watches Kubernetes. It publishes what it sees, and owns Accepted and the phase."""
