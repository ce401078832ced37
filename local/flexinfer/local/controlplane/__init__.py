"""A real control plane on loopback: its processes, their files, and the objects that its API server needs."""
