"""A real control plane on loopback: its processes, their files, and what its API server must hold for us."""
