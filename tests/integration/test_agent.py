"""The agent over a stub of NVIDIA's library: the real bindings, in a process of their own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

STUB = r"""
#include <string.h>
#include <stdlib.h>
typedef struct {unsigned long long total, free, used;} mem1;
typedef struct {unsigned int version; unsigned long long total, reserved, free, used;} mem2;
typedef struct {unsigned int gpu, memory;} utilization;
static int probes = 0;
int nvmlInitWithFlags(unsigned f){return getenv("STUB_DRIVER_MISSING") ? 9 : 0;}
int nvmlInit_v2(void){return 0;}
int nvmlShutdown(void){return 0;}
const char* nvmlErrorString(int code){return code == 9 ? "Driver Not Loaded" : "Unknown Error";}
int nvmlDeviceGetCount_v2(unsigned*c){
  if (getenv("STUB_BREAKS") && probes++ == 1) return 999;
  *c=2; return 0;}
int nvmlDeviceGetHandleByIndex_v2(unsigned i,void**h){
  static int handles = 0;
  if (getenv("STUB_LOSES_ONE") && handles++ >= 2 && i == 1) return 15;
  *h=(void*)(long)(i+1);return 0;}
typedef struct {unsigned pid; unsigned long long used; unsigned gpu, compute;} process;
int nvmlDeviceGetComputeRunningProcesses_v3(void*h,unsigned*n,process*p){
  const char* how = getenv("STUB_PROCESSES");
  if (!how) {*n=0;return 0;}
  if (!strcmp(how,"forbidden")) return 4;
  if (*n<1) {*n=1;return 7;}
  static int lists = 0;
  unsigned long long grown = (unsigned long long)(lists++ % 2) << 30;
  *n=1; p->pid=4194999; p->gpu=p->compute=~0u;
  p->used=!strcmp(how,"listed")?3ull<<30:!strcmp(how,"growing")?(1ull<<30)+grown:~0ull;
  return 0;}
int nvmlDeviceGetName(void*h,char*b,unsigned n){strncpy(b,(long)h==1?"NVIDIA GeForce RTX 3090":"NVIDIA GeForce GTX 980 Ti",n);return 0;}
int nvmlDeviceGetUUID(void*h,char*b,unsigned n){strncpy(b,(long)h==1?"GPU-aaaa":"GPU-bbbb",n);return 0;}
int nvmlDeviceGetMemoryInfo(void*h,mem1*m){m->total=6ull<<30;m->used=1ull<<30;m->free=5ull<<30;return 0;}
#ifndef OLD_DRIVER
int nvmlDeviceGetMemoryInfo_v2(void*h,mem2*m){
  m->total=24ull<<30;m->reserved=300ull<<20;m->used=1ull<<30;m->free=m->total-m->used-m->reserved;return 0;}
int nvmlDeviceGetUtilizationRates(void*h,utilization*u){u->gpu=42;u->memory=7;return 0;}
#endif
int nvmlDeviceGetCudaComputeCapability(void*h,int*a,int*b){*a=(long)h==1?8:5;*b=(long)h==1?6:2;return 0;}
"""
SCRIPT = """
import msgspec, sys
from flexinfer.agent.sample import DeviceSample, sample
from flexinfer.agent.vendors import all_vendors
current, samples = DeviceSample(), []
for _ in range(int(sys.argv[1])):
    current = sample(all_vendors(), current)
    samples.append(current)
sys.stdout.buffer.write(msgspec.json.encode(samples))
"""


@pytest.fixture
def compiler() -> str:
    """Return a C compiler, or skip."""
    path = shutil.which("cc") or shutil.which("gcc")
    if path is None:
        pytest.skip("no C compiler")
    return path


def samples_with_stub(
    folder: Path, compiler: str, number: int = 1, *defines: str, **variables: str
) -> list[Any]:
    """Return the samples of a process with the stub on its library path."""
    (folder / "stub.c").write_text(STUB)
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(
        [compiler, "-shared", "-fPIC", *defines, "-o", str(library), str(folder / "stub.c")], check=True
    )
    return samples(number, LD_LIBRARY_PATH=str(folder), **variables)


def samples(number: int = 1, **variables: str) -> list[Any]:
    """Return the samples of a process."""
    environment = os.environ | variables
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(number)],
        env=environment,
        capture_output=True,
        check=True,
        timeout=60,
    )
    result: list[Any] = json.loads(process.stdout)
    return result


@pytest.mark.integration
def test_each_device_is_sampled_with_its_memory_and_architecture(tmp_path: Path, compiler: str) -> None:
    """The driver's own share is neither free nor used."""
    (first,) = samples_with_stub(tmp_path, compiler)
    assert first["devices"] == [
        {
            "uuid": "GPU-aaaa",
            "name": "NVIDIA GeForce RTX 3090",
            "architecture": "sm_86",
            "totalMb": 24576,
            "freeMb": 23252,
            "usedMb": 1024,
            "utilisation": 42,
        },
        {
            "uuid": "GPU-bbbb",
            "name": "NVIDIA GeForce GTX 980 Ti",
            "architecture": "sm_52",
            "totalMb": 24576,
            "freeMb": 23252,
            "usedMb": 1024,
            "utilisation": 42,
        },
    ]


@pytest.mark.integration
def test_an_old_driver_without_half_of_the_calls_is_enough(tmp_path: Path, compiler: str) -> None:
    """The first version of the memory call, and no utilisation."""
    (first,) = samples_with_stub(tmp_path, compiler, 1, "-DOLD_DRIVER")
    assert [(d["totalMb"], d["freeMb"], d.get("utilisation", 0)) for d in first["devices"]] == [
        (6144, 5120, 0)
    ] * 2


@pytest.mark.integration
def test_after_an_error_devices_are_unhealthy_and_the_library_is_opened_again(
    tmp_path: Path, compiler: str
) -> None:
    """A reloaded driver answers "Unknown Error" until then."""
    taken = samples_with_stub(tmp_path, compiler, 3, STUB_BREAKS="1")
    assert [[d.get("healthy", True) for d in s["devices"]] for s in taken] == [
        [True, True],
        [False, False],
        [True, True],
    ]
    assert "NVML" in taken[1]["message"]


@pytest.mark.integration
def test_a_device_that_fell_off_the_bus_is_unhealthy_and_hides_no_other(
    tmp_path: Path, compiler: str
) -> None:
    """What it last held is not free."""
    taken = samples_with_stub(tmp_path, compiler, 3, STUB_LOSES_ONE="1")
    assert [[(d["uuid"], d.get("healthy", True)) for d in s["devices"]] for s in taken] == [
        [("GPU-aaaa", True), ("GPU-bbbb", True)],
        [("GPU-aaaa", True), ("GPU-bbbb", False)],
        [("GPU-aaaa", True), ("GPU-bbbb", False)],
    ]
    assert taken[1]["message"].startswith("NVML: device 1: ")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("how", "known", "processes"),
    [
        ("listed", True, [{"pid": 4194999, "usedMb": 3072}]),
        ("growing", True, [{"pid": 4194999, "usedMb": 1024}]),
        ("without memory", False, [{"pid": 4194999}]),
        ("forbidden", False, []),
    ],
)
def test_a_device_says_whether_its_processes_are_known(
    tmp_path: Path,
    compiler: str,
    how: str,
    known: bool,  # noqa: FBT001
    processes: list[Any],
) -> None:
    """A list that was refused, or that does not say how much each holds, proves nothing by what it lacks."""
    (first,) = samples_with_stub(tmp_path, compiler, STUB_PROCESSES=how)
    for device in first["devices"]:
        assert (device.get("processesKnown", True), device.get("processes", [])) == (known, processes)


@pytest.mark.integration
def test_a_library_without_a_driver_is_no_error(tmp_path: Path, compiler: str) -> None:
    """As in a container without a device."""
    (first,) = samples_with_stub(tmp_path, compiler, STUB_DRIVER_MISSING="1")
    assert (first.get("devices", []), "Driver" in first["message"]) == ([], True)


@pytest.mark.integration
def test_no_library_is_no_error() -> None:
    """The message of a node without NVIDIA devices names it."""
    if any(Path("/dev").glob("nvidia*")):
        pytest.skip("this machine has one")
    (first,) = samples()
    assert first["devices"] == []
    assert "NVML" in first["message"]
