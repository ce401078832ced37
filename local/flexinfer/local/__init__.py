"""FlexInfer on one machine without a cluster: a local API server, a local node, and the supervisor of `flexinfer up`."""
