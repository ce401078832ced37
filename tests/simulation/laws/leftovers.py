"""Nothing is left of a Model that was deleted: no Pod, Service or Job names its uid."""

from flexinfer.api.labels import MODEL_UID_LABEL
from localkube.apiserver.requests import Query
from tests.simulation.laws.base import Law

_KINDS = (("", "v1", "pods"), ("", "v1", "services"), ("batch", "v1", "jobs"))


class Leftovers(Law):
    """Judges what the store holds at the end."""

    def ends_history(self) -> None:
        """Judge each object with the label of a Model."""
        simulation = self.checker.simulation
        for kind in _KINDS:
            for item in simulation.store.list(simulation.machines.named(*kind), None, Query()).items:
                uid = item["metadata"].get("labels", {}).get(MODEL_UID_LABEL)
                if uid is not None and uid not in self.checker.models:
                    self.report(f"{kind[2]} {item['metadata']['name']} of the deleted Model {uid} is left")
