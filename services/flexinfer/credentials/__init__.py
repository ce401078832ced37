"""Credentials: certificates and passwords of NATS in a cluster, created once and never overwritten."""
