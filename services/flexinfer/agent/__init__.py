"""GPU -> bus: what devices a node has and how much of their memory is free."""
