"""The shell around every service: the only code that knows NATS, the Kubernetes API, signals and clocks."""
