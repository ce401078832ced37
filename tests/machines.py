"""Trees of /proc and /sys as real machines have them, for what reads devices."""

import shutil
from pathlib import Path

import msgspec


def write(root: Path, files: dict[str, object]) -> None:
    """Write files below a folder, each with a newline at its end."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


def a_process(
    proc: Path, pid: int, name: str, *, started: int = 1000, cgroup: str = "0::/user.slice"
) -> None:
    """Add a process to a tree of /proc, or replace it."""
    fields = " ".join(["S", "1", *("0" for _ in range(17)), str(started), "0"])
    write(proc, {f"{pid}/stat": f"{pid} ({name}) {fields}", f"{pid}/comm": name, f"{pid}/cgroup": cgroup})
    (proc / str(pid) / "fd").mkdir(exist_ok=True)


class AmdGpu(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU of AMD as amdgpu and KFD show it; `target` is KFD's gfx_target_version, `core` the version of the graphics core."""

    address: str
    device: str
    revision: str
    total_mb: int
    target: int
    unique_id: int = 0
    core: tuple[int, int, int] | None = None
    cpu_cores: int = 0
    minor: int = 128
    gpu_id: int = 12345
    used_mb: int = 26


RX_7900_XTX = AmdGpu(
    address="0000:03:00.0",
    device="0x744c",
    revision="0xc8",
    total_mb=24560,
    target=110000,
    core=(11, 0, 0),
    unique_id=0x8A5C1F2B3D4E5F60,
)
MI50 = AmdGpu(
    address="0000:43:00.0",
    device="0x66a1",
    revision="0x02",
    total_mb=16368,
    target=90006,
    unique_id=0x21AB4A1C2B3D4E5F,
    minor=129,
    gpu_id=54321,
)
LAPTOP_IGPU = AmdGpu(
    address="0000:c1:00.0", device="0x15bf", revision="0xc2", total_mb=512, target=110003, core=(11, 0, 1), minor=130, gpu_id=777
)  # fmt: skip


class Sys:
    """A tree of /sys with the devices of a machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def on_pci(self, address: str, vendor: str, *, device: str = "0x0000", driver: str = "") -> Path:
        """Add a display controller."""
        folder = self.root / "bus/pci/devices" / address
        write(folder, {"vendor": vendor, "class": "0x030000", "device": device})
        if driver:
            (self.root / "bus/pci/drivers" / driver).mkdir(parents=True, exist_ok=True)
            (folder / "driver").symlink_to(self.root / "bus/pci/drivers" / driver)
        return folder

    def add(self, gpu: AmdGpu, *, kfd: bool = True) -> None:
        """Add a GPU of AMD; `kfd`: as one sees it that may use the device."""
        folder = self.on_pci(gpu.address, "0x1002", device=gpu.device, driver="amdgpu")
        write(
            folder,
            {
                "revision": gpu.revision,
                "mem_info_vram_total": gpu.total_mb << 20,
                "gpu_busy_percent": 7,
                "hwmon/hwmon3/temp1_input": 41000,
                "hwmon/hwmon3/power1_average": 23000000,
                "power/runtime_status": "active",
            }
            | ({"unique_id": f"{gpu.unique_id:016x}"} if gpu.unique_id else {}),
        )
        (folder / f"drm/renderD{gpu.minor}").mkdir(parents=True)
        if gpu.core:
            major, minor, revision = gpu.core
            write(folder / "ip_discovery/die/0/GC/0", {"major": major, "minor": minor, "revision": revision})
        if kfd:
            self._add_to_kfd(gpu)
        self.use(gpu, gpu.used_mb)

    def _add_to_kfd(self, gpu: AmdGpu) -> None:
        write(
            self.root / f"class/kfd/kfd/topology/nodes/{gpu.minor - 127}",
            {
                "gpu_id": gpu.gpu_id,
                "properties": f"cpu_cores_count {gpu.cpu_cores}\nsimd_count 192\nvendor_id 4098\ndrm_render_minor {gpu.minor}\n"
                f"unique_id {gpu.unique_id}\ngfx_target_version {gpu.target}",
            },
        )

    def add_processor(self) -> None:
        """Add the node that KFD makes of the CPU."""
        properties = "cpu_cores_count 16\nsimd_count 0\nvendor_id 0\ndrm_render_minor 0\ngfx_target_version 0"
        write(self.root / "class/kfd/kfd/topology/nodes/0", {"gpu_id": 0, "properties": properties})

    def use(self, gpu: AmdGpu, used_mb: int) -> None:
        """Set how much memory of a device is in use."""
        write(self.root / "bus/pci/devices" / gpu.address, {"mem_info_vram_used": used_mb << 20})

    def compute(self, gpu: AmdGpu, pid: int, used_mb: int) -> None:
        """Let a process hold memory by KFD."""
        write(self.root / f"class/kfd/kfd/proc/{pid}", {f"vram_{gpu.gpu_id}": used_mb << 20})

    def unplug(self, gpu: AmdGpu) -> None:
        """Take a device away."""
        shutil.rmtree(self.root / "bus/pci/devices" / gpu.address)


def draw(proc: Path, gpu: AmdGpu, pid: int, fd: int, client: int, fields: str) -> None:
    """Let a process hold memory by a file that is open on the device; `fields` are lines of its fdinfo."""
    folder = proc / str(pid)
    (folder / "fd" / str(fd)).symlink_to(f"/dev/dri/renderD{gpu.minor}")
    text = f"pos:\t0\ndrm-driver:\tamdgpu\ndrm-client-id:\t{client}\ndrm-pdev:\t{gpu.address}\n{fields}"
    write(folder, {f"fdinfo/{fd}": text})
