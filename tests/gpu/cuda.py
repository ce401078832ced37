"""A process that uses cards, by the driver's own library: `python -m tests.gpu.cuda uuids` or `hold MIB`.

`uuids` prints those of the devices that it may see, in their order. `hold` takes memory of the first, says so, and keeps it until its
standard input ends.
"""

import ctypes
import sys
import uuid

_LIBRARY = "libcuda.so.1"


class Cuda:
    """The driver API (https://docs.nvidia.com/cuda/cuda-driver-api)."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(_LIBRARY)
        self._call("cuInit", 0)

    def uuids(self) -> list[str]:
        """Return the visible devices as NVML names them."""
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        return [self._uuid(index) for index in range(count.value)]

    def hold(self, mebibytes: int) -> None:
        """Take memory of the first device."""
        context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device(0))
        self._call("cuCtxSetCurrent", context)
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(mebibytes * 2**20))

    def _device(self, index: int) -> ctypes.c_int:
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), index)
        return device

    def _uuid(self, index: int) -> str:
        data = (ctypes.c_ubyte * 16)()
        self._call("cuDeviceGetUuid", ctypes.byref(data), self._device(index))
        return f"GPU-{uuid.UUID(bytes=bytes(data))}"

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise RuntimeError(f"{name}: error {code}")


def main(words: list[str]) -> None:
    """Do what the words say."""
    cuda = Cuda()
    if words[:1] == ["uuids"]:
        sys.stdout.write("\n".join(cuda.uuids()) + "\n")
        return
    cuda.hold(int(words[1]))
    sys.stdout.write("held\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
