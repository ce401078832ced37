"""What `flexinfer gpus --here` says of a machine."""

from pathlib import Path

from flexinfer.agent import cpu, look
from flexinfer.agent.cpu import CpuFacts
from flexinfer.agent.processes import ProcessTable
from flexinfer.agent.vendors import ProbeResult, Vendor
from flexinfer.agent.vendors.amd import Tree
from flexinfer.events.nodes import Device, DeviceProcess
from tests.machines import LAPTOP_IGPU, RX_7900_XTX, Sys, a_process, write

UID = "0c5d8f3a-91f6-4a3e-8d1c-3b6a7f0e2d11"
FACTS = CpuFacts(cores=16, memory_mb=64211, available_mb=51204, vector_flags=("avx", "avx2"))


def text(*vendors: Vendor) -> list[str]:
    """Return the lines of a report."""
    return list(look.lines(look.report(vendors, FACTS)))


def test_a_card_is_shown_with_who_holds_its_memory(tmp_path: Path) -> None:
    """And an integrated GPU with why it is not."""
    sys, proc = Sys(tmp_path / "sys"), tmp_path / "proc"
    sys.add(RX_7900_XTX)
    sys.add(LAPTOP_IGPU)
    a_process(proc, 41213, "llama-server", cgroup=f"0::/kubepods/pod{UID}/abc")
    a_process(proc, 2204, "game")
    sys.compute(RX_7900_XTX, 41213, 20000)
    sys.compute(RX_7900_XTX, 2204, 118)
    sys.use(RX_7900_XTX, 20200)
    lines = text(Vendor(name="amd", probe=Tree(ProcessTable(proc), sys.root).probe))
    assert lines == [
        "amd: AMD Radeon RX 7900 XTX, gfx1100, 0000:03:00.0, GPU-8a5c1f2b3d4e5f60",
        "  memory: 4360 MiB free of 24560 MiB, 20200 MiB in use",
        "  7 % busy, 41 °C, 23 W",
        "  118 MiB  pid 2204 game (outside Kubernetes)",
        f"  20000 MiB  pid 41213 llama-server (Pod {UID})",
        "AMD: 0000:c1:00.0 (gfx1103, 512 MiB) is part of the CPU and left out: its memory is the node's own; run the Model on the CPU",
        "cpu: 16 cores, 51204 MiB free of 64211 MiB, avx avx2",
    ]


def test_a_machine_without_a_device_says_why_and_where_to_read_on() -> None:
    """Of each vendor."""
    lines = text(
        Vendor(name="amd", probe=lambda: ProbeResult(message="AMD: no GPU on the PCI bus")),
        Vendor(name="nvidia", probe=ProbeResult),
    )
    assert lines[:2] == ["AMD: no GPU on the PCI bus", "nvidia: no device"]
    assert "docs/how-to/find-a-gpu.md" in lines[-1]


def test_the_page_that_is_named_is_there() -> None:
    """A user reads on there."""
    [name] = [word for word in text()[-1].split() if word.startswith("docs/")]
    assert (Path(__file__).resolve().parents[3] / name).exists()


def test_a_device_that_must_not_be_used_says_so_with_its_errors() -> None:
    """And what is not known of it; no text of a process can forge a line."""
    device = Device(
        uuid="GPU-1",
        healthy=False,
        mig=True,
        errors=("XID 79",),
        processes_known=False,
        processes=(DeviceProcess(pid=7, name="a\nb"),),
    )
    lines = text(Vendor(name="nvidia", probe=lambda: ProbeResult(devices=(device,), message="XID 79")))
    assert lines[0] == "nvidia: unknown card, architecture unknown, no PCI address, GPU-1"
    assert "  memory: unknown: the device is not healthy, and is not used" in lines
    assert "  0 % busy, ? °C, ? W" in lines
    assert "  errors: XID 79" in lines
    assert any("divided into MIG devices" in line for line in lines)
    assert any("is not known" in line for line in lines)
    assert all("\n" not in line for line in lines)


def test_the_facts_of_the_cpu_are_read(tmp_path: Path) -> None:
    """Cores, memory, and what decides how fast llama.cpp computes."""
    processor = "processor\t: {}\nflags\t\t: fpu sse2 fma avx f16c avx2 avx512f avx512_vnni amx_int8\n"
    write(
        tmp_path,
        {
            "cpuinfo": "\n".join(processor.format(number) for number in range(4)),
            "meminfo": "MemTotal:       32768000 kB\nMemFree: 1 kB\nMemAvailable:   16384000 kB",
        },
    )
    facts = cpu.read(tmp_path)
    assert facts == CpuFacts(
        cores=4,
        memory_mb=32000,
        available_mb=16000,
        vector_flags=("amx_int8", "avx", "avx2", "avx512_vnni", "avx512f", "f16c", "fma"),
    )


def test_a_machine_that_tells_nothing_has_no_facts(tmp_path: Path) -> None:
    """No error either."""
    assert cpu.read(tmp_path) == CpuFacts(cores=0, memory_mb=0, available_mb=0, vector_flags=())
