"""The supervisor over small real processes: order, restarts, adoption, orderly end."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec
import pytest

from flexinfer.local import instance as instances
from flexinfer.local.installation import Installation
from flexinfer.local.instance import Instance
from flexinfer.local.supervisor import record
from flexinfer.local.supervisor.process import Process
from flexinfer.local.supervisor.program import SERVICES, STORES, Program
from flexinfer.local.supervisor.readiness import Page, ready
from flexinfer.local.supervisor.supervisor import Supervisor, supervised
from localkube.process_identity import alive, identify
from tests.patience import patient

SERVER = """
import http.server, os, pathlib, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *a): pass
s = http.server.HTTPServer(("127.0.0.1", 0), H)
new = pathlib.Path(sys.argv[1] + ".new"); new.write_text(str(s.server_port)); new.replace(sys.argv[1])
s.serve_forever()
"""


def an_instance(folder: Path) -> Instance:
    """Return an instance in a folder."""
    return instances.ensure(folder / "state")


def a_program(instance: Instance, name: str, stage: int = SERVICES, **more: str) -> Program:
    """Return a program that serves /readyz on a port of its own."""
    file = str(instance.health_port_file(name))
    return Program(
        name=name,
        stage=stage,
        argv=(sys.executable, "-c", SERVER, file),
        probe=Page(port_file=file),
        variables=more,
        grace=5,
    )


async def until_other(supervisor: Supervisor, name: str, former: int) -> int:
    """Return the pid of the successor of a process, once it answers."""
    managed = supervisor.processes[name]
    while (
        managed.process is None
        or managed.process.identity.pid == former
        or not await ready(managed.program.probe)
    ):
        await asyncio.sleep(0.01)
    return managed.process.identity.pid


def pid_of(supervisor: Supervisor, name: str) -> int:
    """Return the pid of a process that runs."""
    running = supervisor.processes[name].process
    assert running is not None
    return running.identity.pid


async def test_a_killed_process_is_back_well_within_two_seconds(tmp_path: Path) -> None:
    """SIGKILL: the successor answers, under another pid, and the restart is counted."""
    instance = an_instance(tmp_path)
    async with supervised(instance, [a_program(instance, "one")]) as supervisor, asyncio.timeout(patient(20)):
        await supervisor.until_ready()
        former = pid_of(supervisor, "one")
        began = asyncio.get_running_loop().time()
        os.kill(former, signal.SIGKILL)
        await until_other(supervisor, "one", former)
        assert asyncio.get_running_loop().time() - began < patient(2)
        entry = record.read(instance.record).entry("one")
        assert entry is not None
        assert entry.restarts == 1


async def test_everything_has_ended_when_the_block_ends(tmp_path: Path) -> None:
    """An orderly end reaps every process and the record says so."""
    instance = an_instance(tmp_path)
    async with supervised(instance, [a_program(instance, "one"), a_program(instance, "two")]) as supervisor:
        async with asyncio.timeout(patient(20)):
            await supervisor.until_ready()
        pids = [pid_of(supervisor, name) for name in ("one", "two")]
    assert [identify(pid) for pid in pids] == [None, None]
    assert [entry.identity for entry in record.read(instance.record).entries] == [None, None]


RESTING = """
import signal, sys
signal.signal(signal.SIGUSR2, lambda *_: print("rests", flush=True))
"""


def a_node(instance: Instance, code: str) -> Program:
    """Return a program that stops its engines at a signal, if its code says so."""
    argv = (sys.executable, "-c", code + SERVER, str(instance.health_port_file("node")))
    return msgspec.structs.replace(a_program(instance, "node", STORES), argv=argv, rest_signal=signal.SIGUSR2)


async def test_engines_stop_after_what_serves_and_before_what_sees_it(tmp_path: Path) -> None:
    """So that controllers can say so; a process that handles no such signal, as one of an earlier version, is not sent any."""
    instance = an_instance(tmp_path)
    seen: list[list[str]] = []

    async def at_rest() -> None:
        while instance.log("node").read_text() != "rests\n":
            await asyncio.sleep(0.005)
        record_of = record.read(instance.record)
        seen.append([entry.name for entry in record_of.entries if entry.identity is not None])

    proxy = msgspec.structs.replace(a_program(instance, "proxy"), serves=True)
    for code in (RESTING, ""):
        programs = [a_node(instance, code), a_program(instance, "launcher"), proxy]
        async with supervised(instance, programs, at_rest=at_rest) as supervisor:
            async with asyncio.timeout(patient(20)):
                await supervisor.until_ready()
            node = supervisor.processes["node"].process
            assert node is not None
            assert node.catches(signal.SIGUSR2) == bool(code)
        assert node.code == -signal.SIGTERM
    assert seen == [["node", "launcher"]]


async def test_a_later_stage_starts_once_the_former_one_answers(tmp_path: Path) -> None:
    """The services wait for the stores."""
    instance = an_instance(tmp_path)
    store, service = a_program(instance, "store", STORES), a_program(instance, "service")
    async with supervised(instance, [service, store]) as supervisor, asyncio.timeout(patient(20)):
        while supervisor.processes["service"].process is None:
            answered = await ready(store.probe)
            await asyncio.sleep(0.005)
        assert answered or await ready(store.probe)


def of_build(build: str) -> record.Started:
    """Return what a supervisor of a build records."""
    return record.Started(installation=Installation(version="1", build=build, folder="/opt"))


async def abandoned(
    instance: Instance, programs: list[Program], launch: record.Started | None = None
) -> list[Process]:
    """Leave processes running as a supervisor does that was killed; the test is their parent, as init would be."""
    supervisor = Supervisor(instance, programs, launch=launch)
    await supervisor.adopt()
    keeping = asyncio.create_task(supervisor.run())
    async with asyncio.timeout(patient(20)):
        await supervisor.until_ready()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    return [managed.process for managed in supervisor.processes.values() if managed.process]


async def reaped(former: Process) -> None:
    """Reap a process as init would."""
    async with asyncio.timeout(patient(10)):
        await former.ended()
    former.close()


async def test_what_a_killed_supervisor_left_is_adopted_and_watched(tmp_path: Path) -> None:
    """The successor keeps the processes, and starts one again that dies later."""
    instance = an_instance(tmp_path)
    programs = [a_program(instance, "one"), a_program(instance, "two")]
    former = await abandoned(instance, programs)
    async with supervised(instance, programs) as supervisor, asyncio.timeout(patient(20)):
        assert supervisor.adopted == ["one", "two"]
        pids = [one.identity.pid for one in former]
        assert [pid_of(supervisor, name) for name in ("one", "two")] == pids
        os.kill(pids[0], signal.SIGKILL)
        await reaped(former[0])
        assert await until_other(supervisor, "one", pids[0]) != pids[0]
    await reaped(former[1])


async def test_what_was_started_before_it_could_be_written_down_is_found(tmp_path: Path) -> None:
    """A supervisor killed between a start and its note leaves no double."""
    instance = an_instance(tmp_path)
    program = a_program(instance, "one")
    (former,) = await abandoned(instance, [program])
    instance.record.unlink()
    async with supervised(instance, [program]) as supervisor:
        assert pid_of(supervisor, "one") == former.identity.pid
    await reaped(former)


async def test_what_would_be_started_otherwise_today_is_ended_first(tmp_path: Path) -> None:
    """Another command line or setting: the former process ends, and a new one runs."""
    instance = an_instance(tmp_path)
    (former,) = await abandoned(instance, [a_program(instance, "one", A="old")])
    async with (
        supervised(instance, [a_program(instance, "one", A="new")]) as supervisor,
        asyncio.timeout(patient(20)),
    ):
        assert supervisor.adopted == []
        await supervisor.until_ready()
        assert pid_of(supervisor, "one") != former.identity.pid
    assert not alive(former.identity)
    await reaped(former)


@pytest.mark.parametrize(
    ("former_build", "build", "kept"),
    [("a", "a", True), ("a", "b", False), ("", "b", False), ("a", None, True)],
)
async def test_processes_of_another_build_are_ended_first(
    tmp_path: Path, former_build: str, build: str | None, *, kept: bool
) -> None:
    """Their command lines are the same, their code is not; `flexinfer down`, which starts nothing, adopts them whatever they are."""
    instance = an_instance(tmp_path)
    programs = [a_program(instance, "one")]
    (former,) = await abandoned(instance, programs, of_build(former_build))
    launch = of_build(build) if build is not None else None
    async with (
        supervised(instance, programs, launch=launch) as supervisor,
        asyncio.timeout(patient(20)),
    ):
        assert (supervisor.adopted, supervisor.replaced) == ((["one"], []) if kept else ([], ["one"]))
        await supervisor.until_ready()
        assert (pid_of(supervisor, "one") == former.identity.pid) == kept
    await reaped(former)


async def test_a_process_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    """Nothing outlives the end of its supervisor."""
    instance = an_instance(tmp_path)
    deaf = a_program(instance, "deaf")
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVER
    deaf = msgspec.structs.replace(
        deaf, argv=(sys.executable, "-c", code, str(instance.health_port_file("deaf"))), grace=0.2
    )
    async with supervised(instance, [deaf]) as supervisor:
        async with asyncio.timeout(patient(20)):
            await supervisor.until_ready()
        pid = pid_of(supervisor, "deaf")
    assert identify(pid) is None


async def test_a_program_that_is_not_installed_does_not_stop_the_others(tmp_path: Path) -> None:
    """Its log says why it does not start."""
    instance = an_instance(tmp_path)
    missing = Program(name="missing", argv=("/nonexistent",), probe=Page(port=1))
    async with (
        supervised(instance, [missing, a_program(instance, "one")]) as supervisor,
        asyncio.timeout(patient(20)),
    ):
        await supervisor.until_ready(["one"])
    assert "missing cannot be started" in instance.log("missing").read_text()
