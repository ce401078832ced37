"""A Kubernetes API server in one process: the part of the API that FlexInfer and kubectl use.

The parts by their counterparts in Kubernetes: `http` and `routing` (endpoints/handlers), `store` and
`versioned_storage` (registry/generic and etcd), `watch_cache` (storage/cacher), `apply` and `managed_fields`
(managedfields and structured-merge-diff), `registry` and `structural_schema` (apiextensions-apiserver),
`discovery` and `openapi`, `tables` and `printers` (printers/internalversion).

Clients reach it over HTTP (`server`); tests and the simulation use the store directly. It is not the API
server of a production cluster: there is one replica, one user (no RBAC), no admission webhooks and no API
aggregation, and what is not implemented is answered with a 404, 405 or 415, never ignored.
"""
