"""`flexinfer lease`: what is written for a command line, what is printed, and how a wait ends."""

import argparse
from collections.abc import Callable

import msgspec
import pytest

from flexinfer.api.lease import GPULease
from flexinfer.api.lease_reasons import LeaseReason
from flexinfer.cli import lease as command
from flexinfer.cli.errors import CommandError
from tests.builders import a_lease
from tests.unit.launcher.world import World


def options(*words: str) -> argparse.Namespace:
    """Return what a command line says."""
    parser = argparse.ArgumentParser()
    command.arguments(parser)
    parsed = parser.parse_args(words)
    parsed.namespace = parsed.namespace or "default"
    return parsed


def asked(*words: str) -> GPULease:
    """Return the lease that `flexinfer lease take` of these words asks for."""
    return command.asked_for(options("take", *words))


def stored(world: World, name: str = "game") -> GPULease | None:
    """Return a lease as the API holds it."""
    thing = world.find("gpuleases", name)
    return msgspec.convert(thing, GPULease) if thing is not None else None


def told(world: World, reason: str, message: str = "") -> None:
    """Let the arbiter write a status."""
    lease = a_lease(told=reason)
    conditions = [msgspec.to_builtins(lease.status.conditions[0]) | {"message": message}]
    world.touch("gpuleases", "game", lambda thing: thing.update(status={"conditions": conditions}))


class Time:
    """A clock that a pause moves; `then` are what happens in the first pauses."""

    def __init__(self, *then: Callable[[], None]) -> None:
        self.now, self._then = 0.0, list(then)

    async def pause(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        if self._then:
            self._then.pop(0)()


@pytest.mark.parametrize(("text", "size"), [("8Gi", 8192), ("8192", 8192), ("512Mi", 512)])
def test_a_size_is_read_in_mib(text: str, size: int) -> None:
    """As `--memory` takes it."""
    assert asked("game", "--group", "card", "--memory", text).spec.memory_mb == size


@pytest.mark.parametrize("text", ["8GB", "much", "-1", ""])
def test_what_is_no_size_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With an example."""
    with pytest.raises(SystemExit):
        options("take", "game", "--group", "card", f"--memory={text}")
    assert "such as 8Gi or 8192 (MiB)" in capsys.readouterr().err


def test_a_rule_of_the_api_is_told_before_anything_is_sent() -> None:
    """In the words of the field."""
    with pytest.raises(CommandError, match=r"lease game: spec\.duration must be between 1s and 168h"):
        asked("game", "--group", "card", "--duration", "200h")


def test_the_instance_is_named_before_or_after_the_command() -> None:
    """As with every other command."""
    assert options("--state", "x", "list").state == "x"
    assert options("list", "--state", "x", "-n", "lab").state == "x"


async def test_a_lease_is_taken_as_the_words_say(capsys: pytest.CaptureFixture[str]) -> None:
    """Without `--memory` the field is absent: the whole of the GPUs."""
    world = World()
    assert await command.take(world, asked("game", "--group", "card", "--reason", "evening")) == 0
    lease = stored(world)
    assert lease is not None
    assert (lease.spec.group, lease.spec.memory_mb, lease.spec.reason) == ("card", None, "evening")
    assert "memoryMB" not in (world.find("gpuleases", "game") or {})["spec"]
    assert "lease default/game taken: group card, whole GPU, 2h" in capsys.readouterr().out


async def test_wait_returns_once_it_is_granted_and_tells_each_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A step once."""
    world = World()
    time = Time(
        lambda: told(world, "Queued", "position 1 of 1"),
        lambda: None,
        lambda: told(world, LeaseReason.GRANTED, "turn 4"),
    )
    lease = asked("game", "--group", "card")
    assert await command.take(world, lease, wait=True, pause=time.pause, clock=lambda: time.now) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == ["position 1 of 1", "Granted: turn 4"]


async def test_a_wait_that_takes_too_long_keeps_the_lease_and_says_how_to_end_it() -> None:
    """It is still queued."""
    world, time = World(), Time()
    with pytest.raises(CommandError, match="stays queued; `flexinfer lease give game -n default` ends that"):
        await command.take(
            world,
            asked("game", "--group", "card"),
            wait=True,
            timeout=3.0,
            pause=time.pause,
            clock=lambda: time.now,
        )
    assert stored(world) is not None


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (lambda world: told(world, LeaseReason.RELEASED, "why"), "is over: Released: why"),
        (lambda world: world.things.clear(), "was given back while it was waited for"),
    ],
)
async def test_a_wait_ends_with_the_lease(event: Callable[[World], None], message: str) -> None:
    """Whatever ended it."""
    world = World()
    time = Time(lambda: event(world))
    with pytest.raises(CommandError, match=message):
        await command.take(world, asked("game", "--group", "card"), wait=True, pause=time.pause)


async def test_a_lease_that_is_over_makes_way_for_the_next_of_its_name() -> None:
    """A game every evening. One that is not over stays, and the message says how it is."""
    world = World()
    lease = asked("game", "--group", "card")
    await command.take(world, lease)
    with pytest.raises(CommandError, match=r"lease default/game exists \(new\); `flexinfer lease give game"):
        await command.take(world, lease)
    told(world, LeaseReason.EXPIRED)
    await command.take(world, lease)
    current = stored(world)
    assert current is not None
    assert current.condition() is None


async def test_a_lease_is_given_back(capsys: pytest.CaptureFixture[str]) -> None:
    """One that there is not is named with where to look."""
    world = World()
    await command.take(world, asked("game", "--group", "card"))
    assert await command.give(world, "default", "game") == 0
    assert stored(world) is None
    assert "lease default/game given back" in capsys.readouterr().out
    with pytest.raises(
        CommandError, match="lease 'game' not found in namespace default; `kubectl get gl -A` lists all"
    ):
        await command.give(world, "default", "game")


def test_leases_are_listed_as_a_table() -> None:
    """Also one that nothing is known of yet."""
    game = a_lease(
        told="Queued", spec={"memory_mb": 8192, "reason": "evening\x1b[2J"}, status={"position": 2}
    )
    lines = command.table([a_lease("train"), game])
    assert lines == [
        "NAME    GROUP   MEMORY      STATE    POSITION   EXPIRES   REASON",
        "game    card    8192 MiB    Queued   2          -         evening [2J",
        "train   card    whole GPU   New      -          -         -",
    ]
    assert command.table([]) == ["no leases"]
