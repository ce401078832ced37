"""A program in the place of vLLM that ends as vLLM 0.32.0 does: by its loggers, with its logging configuration, and with nothing of its code.

Its engine says the cause below a stack of more than the 4 KiB that the kubelet reads, and its server then writes more than the kubelet keeps of a log.
"""

from pathlib import Path

from tests.node import images
from tests.node.layout import REGISTRY
from tests.node.product import TAG

IMAGE = f"{REGISTRY}/flexinfer/vllm:{TAG}"
CAUSE = "Error while deserializing header: incomplete metadata, file not fully covered"
PROGRAM = f"""#!/usr/bin/env python
import json, logging.config, os, sys

with open(os.environ["VLLM_LOGGING_CONFIG_PATH"]) as file:
    logging.config.dictConfig(json.load(file))


class SafetensorError(Exception):
    pass


def load(parts):
    if not parts:
        raise SafetensorError("{CAUSE}")
    load_one(parts)


def load_one(parts):
    load(parts - 1)


try:
    load(100)
except SafetensorError:
    logging.getLogger("vllm.v1.engine.core").exception("EngineCore failed to start.")
server = logging.getLogger("vllm.entrypoints.openai.api_server")
for line in range(100):
    server.error("line %d of the stack of the server", line)
sys.exit(1)
"""


def push(folder: Path) -> None:
    """Build and push its image, in a folder for its files."""
    program = folder / "vllm"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    base = f"{REGISTRY}/flexinfer/services:{TAG}"
    (folder / "Dockerfile").write_text(f"FROM {base}\nCOPY vllm /usr/local/bin/vllm\n")
    images.push_folder(IMAGE, folder)
