"""Installs CustomResourceDefinitions in the registry, when they are written and when they are restored.

Like apiextensions-apiserver/pkg/apiserver/customresource_handler.go, but in the same step as the write, so a
definition is served as soon as it is stored. The controller `crd_establishing` writes its status.
"""

import logging

from localkube.apiserver.errors import ApiError
from localkube.apiserver.registry import Registry
from localkube.apiserver.resources import Object
from localkube.apiserver.structured_merge import same

logger = logging.getLogger(__name__)


class CrdHandler:
    """Installs and removes what definitions define; `restored` is set once the journal has been replayed."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.restored = False

    def handle(self, old: Object | None, new: Object | None) -> None:
        """Serve what a definition defines until it is deleted.

        Raises ApiError 422, and changes nothing, if it is invalid.
        """
        if new is not None and (old is None or not same(old.get("spec"), new.get("spec"))):
            self._install(new)
        elif new is None and old is not None:
            self._registry.remove(old)

    def _install(self, crd: Object) -> None:
        try:
            self._registry.install(crd)
        except ApiError as error:
            if self.restored:
                raise
            # Stored by a version with other rules. Failing here would keep the server from starting; the definition is
            # not served until it is written again, and its objects stay in the store until then.
            logger.warning("%s is not served: %s", crd["metadata"]["name"], error)
