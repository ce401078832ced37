"""The state stream is written only by who knows what it holds, a hint follows a write, and at last every component holds what the API holds."""

from typing import Any

from flexinfer.api.services import STATE_KINDS
from flexinfer.events import codec, events, subjects
from flexinfer.runtime.kubernetes.api import MODELS
from tests.simulation.jetstream.server import EXPECTED_HEADER
from tests.simulation.jetstream.stream import StoredMessage
from tests.simulation.laws.base import Call, Law
from tests.simulation.laws.facts import key_of


class Streams(Law):
    """Judges each message of the watcher, the hints of the others, and what they hold at the end."""

    def __init__(self, checker: Any) -> None:
        super().__init__(checker)
        self._wrote: set[tuple[str, str, int]] = set()  # owner, uid, resourceVersion

    def called(self, call: Call, answer: Any) -> None:
        """Note a status write: a hint may follow it."""
        if call.kind is MODELS and call.verb == "apply":
            self._wrote.add((call.component, answer.uid, answer.metadata.version))

    def published(self, subject: str, data: bytes, stored: StoredMessage | None) -> None:
        """Judge a message that the server accepted."""
        kind = subjects.kind_of(subject) if subject.startswith(subjects.ROOT) else ""
        if kind in STATE_KINDS and stored is not None and EXPECTED_HEADER not in stored.headers:
            self.report(f"{subject} was published whatever the stream held")
        elif kind == "changed":
            hint = codec.decode(data)
            if isinstance(hint, events.StatusChanged):
                self._hint(hint)

    def _hint(self, hint: events.StatusChanged) -> None:
        if (hint.owner, hint.uid, hint.version) not in self._wrote:
            self.report(f"{hint.owner} says that it wrote {hint.name} as {hint.version}, which it did not")

    def behind(self) -> list[str]:
        """Return which components do not hold what the API server holds."""
        stored = {key_of(m): int(m["metadata"]["resourceVersion"]) for m in self.checker.models.values()}
        behind = []
        for name, state in sorted(self.checker.simulation.observed.items()):
            held = {key: model.metadata.version for key, model in state().models.items()}
            if held != stored:
                behind.append(f"the {name} holds {held}, and the API server {stored}")
        return behind

    def ends_history(self) -> None:
        """Judge what each component holds."""
        for problem in self.behind():
            self.report(problem)
