"""The runtime of a component: the only code that uses NATS, the Kubernetes API, signals and clocks."""
