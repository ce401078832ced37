"""The state stream never goes back, a hint follows a write, and at last every component holds what the API holds."""

from typing import Any

from flexinfer.events import codec, events, subjects
from flexinfer.runtime.kubernetes.api import MODELS
from tests.simulation.jetstream.stream import StoredMessage
from tests.simulation.laws.base import Call, Law
from tests.simulation.laws.facts import key_of


class Streams(Law):
    """Judges each message of the watcher, the hints of the others, and what they hold at the end."""

    def __init__(self, checker: Any) -> None:
        super().__init__(checker)
        self._published: dict[str, tuple[str, int, str]] = {}  # subject -> stream, version, uid
        self._wrote: set[tuple[str, str, int]] = set()  # owner, uid, resourceVersion

    def called(self, call: Call, answer: Any) -> None:
        """Note a status write: a hint may follow it."""
        if call.kind is MODELS and call.verb == "apply":
            self._wrote.add((call.component, answer.uid, answer.metadata.version))

    def published(self, subject: str, data: bytes, stored: StoredMessage | None) -> None:
        """Judge a message that the server accepted."""
        kind = subjects.kind_of(subject) if subject.startswith(subjects.ROOT) else ""
        if kind == "model" and stored is not None:
            self._model(subject, data)
        elif kind == "changed":
            hint = codec.decode(data)
            if isinstance(hint, events.StatusChanged):
                self._hint(hint)

    def _model(self, subject: str, data: bytes) -> None:
        event = codec.decode(data)
        stream = self.checker.simulation.nats.streams[subjects.STATE_STREAM].created
        before = self._published.get(subject)
        if isinstance(event, events.ModelObserved):
            version, uid = event.model.metadata.version, event.model.uid
            if before is not None and before[0] == stream and before[2] == uid and version < before[1]:
                self.report(f"{subject} went back from version {before[1]} to {version}")
            self._published[subject] = (stream, version, uid)
        else:
            self._published.pop(subject, None)

    def forget(self) -> None:
        """Forget what was published: the stream is an older copy, or holds what another wrote."""
        self._published.clear()

    def _hint(self, hint: events.StatusChanged) -> None:
        if (hint.owner, hint.uid, hint.version) not in self._wrote:
            self.report(f"{hint.owner} says that it wrote {hint.name} as {hint.version}, which it did not")

    def ends_history(self) -> None:
        """Judge what each component holds."""
        stored = {key_of(m): int(m["metadata"]["resourceVersion"]) for m in self.checker.models.values()}
        for name, state in sorted(self.checker.simulation.observed.items()):
            held = {key: model.metadata.version for key, model in state().models.items()}
            if held != stored:
                self.report(f"the {name} holds {held}, and the API server {stored}")
