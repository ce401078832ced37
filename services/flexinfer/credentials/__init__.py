"""Credentials: certificates and passwords of NATS and its users in a cluster, created once and never overwritten."""
