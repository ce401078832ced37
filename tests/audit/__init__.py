"""After the cluster tier: what its API servers noted of every request, held against the rights that the manifests give."""
