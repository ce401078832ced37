"""Build the judges of docs/how-to/gitops.md, for `make test-cluster`."""

import os

from tests.healthchecks.program import build

build(os.environ)
