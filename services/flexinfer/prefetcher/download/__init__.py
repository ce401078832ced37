"""The program of a download: the weights of a hub or registry, completely or not at all, in a Job or an init container."""
