"""The checks that are the same of every engine that answers text; each file adds what its engines do in ways of their own."""

import json
import signal

from tests.engines.program import GRACE_SECONDS, HELLO, Make, Program

CHAT = "/v1/chat/completions"


class TextChecks:
    """One method a check; the fixtures are those of the file that inherits them."""

    def test_address(self, engine: Program, make: Make) -> None:
        """Another address of this machine is refused."""
        assert make().ask(engine.backend.health)[0] == 0

    def test_chat(self, engine: Program) -> None:
        """One answer."""
        code, answer = engine.ask(CHAT, {"model": engine.served, "messages": HELLO, "max_tokens": 4})
        assert (code, answer["usage"]["completion_tokens"]) == (200, 4)
        assert answer["choices"][0]["message"]["content"]

    def test_completions(self, engine: Program) -> None:
        """The older way."""
        body = {"model": engine.served, "prompt": "one two", "max_tokens": 4}
        code, answer = engine.ask("/v1/completions", body)
        assert (code, bool(answer["choices"][0]["text"])) == (200, True)

    def test_stream(self, engine: Program) -> None:
        """Event by event."""
        events = list(engine.stream(32).events())
        assert len(events) > 4
        assert events[-1] == "[DONE]"

    def test_stream_usage(self, engine: Program) -> None:
        """In the last event before the end."""
        events = list(engine.stream(4, stream_options={"include_usage": True}).events())
        assert json.loads(events[-2])["usage"]["completion_tokens"] == 4

    def test_stop_length(self, engine: Program) -> None:
        """Not as a sentence that has come to its end."""
        _, answer = engine.ask(CHAT, {"model": engine.served, "messages": HELLO, "max_tokens": 2})
        assert answer["choices"][0]["finish_reason"] == "length"

    def test_bad_json(self, engine: Program) -> None:
        """The client's fault."""
        assert 400 <= engine.ask(CHAT, raw=b"{no json")[0] < 500

    def test_unknown_path(self, engine: Program) -> None:
        """Which the proxy does not let through anyway."""
        assert engine.ask("/v1/no/such/path", {})[0] == 404

    def test_terminate(self, fresh: Program) -> None:
        """Sooner than the kubelet's SIGKILL."""
        fresh.kill(signal.SIGTERM)
        assert fresh.code(GRACE_SECONDS) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)

    def test_restart(self, fresh: Program, make: Make) -> None:
        """As the kubelet does after an end."""
        fresh.kill()
        fresh.code()
        again = make(host=fresh.host).start().ready()
        again.end()
