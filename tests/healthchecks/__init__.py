"""The judges of docs/how-to/gitops.md: a Go program with Flux's and Argo CD's own libraries."""
