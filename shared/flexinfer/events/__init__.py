"""Events on NATS, their subjects, and who may publish and subscribe to them. Pure."""
