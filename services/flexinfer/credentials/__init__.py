"""Credentials: what NATS and its users show each other in a cluster, made once and never overwritten."""
