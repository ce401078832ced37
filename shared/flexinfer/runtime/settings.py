"""Settings: what the environment says, as typed fields named after their variable.

`FLEXINFER_HEALTH_PORT` is `health_port`. A bad value names its variable and what it should be.
"""

from collections.abc import Mapping

import msgspec

PREFIX = "FLEXINFER_"


class SettingsError(ValueError):
    """A variable of the environment does not hold what it should."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Everything that can be set; seconds unless a field says otherwise."""

    nats_url: str = "nats://127.0.0.1:4222"
    nats_user: str = ""
    """Empty: the server asks for none."""
    nats_password_file: str = ""
    nats_ca_file: str = ""
    """The authority that signed NATS' certificate; with one, nothing is said before the connection is encrypted. Empty: plain."""
    nats_replicas: int = 1
    """How many NATS servers keep each stream, once it is made: 3 where there are three."""
    bootstrap_nats_user: str = ""
    """The identity that makes streams; only the watcher has it."""
    bootstrap_nats_password_file: str = ""
    kubeconfig: str = ""
    """Empty: the service account of the Pod that this runs in."""
    identity: str = "local"
    """Who this replica is in its Lease: the Pod's uid in a cluster, the instance under `flexinfer up`."""
    health_port: int = 0
    """0: any free port, written to health_port_file."""
    health_port_file: str = ""
    health_host: str = "127.0.0.1"
    node_name: str = ""
    cluster_domain: str = "cluster.local"
    proxy_port: int = 0
    proxy_host: str = "127.0.0.1"
    proxy_port_file: str = ""
    proxy_base_url: str = "http://flexinfer-proxy.flexinfer-system.svc"
    """The door's address as Models name it in status.endpoint."""
    default_namespace: str = "default"
    """Models of this namespace are known at the door by their bare name."""
    api_key_file: str = ""
    """Empty: the door asks for no key."""
    drain_seconds: float = 30.0
    """How long a stop waits for requests under way."""
    loading_seconds: float = 600.0
    """How long an engine may load without progress before its start is given up."""
    memory_free_seconds: float = 5.0
    """Without telemetry: how long after its Pod is gone a device counts as free."""
    relist_seconds: float = 60.0
    """How often the watcher compares the API with the stream, +- 20 %, so that any loss heals within it."""
    silence_seconds: float = 70.0
    """A watch without event or bookmark for this long is taken for dead; servers send bookmarks each minute."""
    image: str = "ghcr.io/flexinfer/flexinfer:latest"
    """Our own image, for Jobs."""
    image_llamacpp_cpu: str = "ghcr.io/ggml-org/llama.cpp:server"
    image_llamacpp_nvidia: str = "ghcr.io/ggml-org/llama.cpp:server-cuda"
    image_llamacpp_amd: str = "ghcr.io/ggml-org/llama.cpp:server-rocm"
    image_ollama: str = "ollama/ollama:latest"
    image_ollama_amd: str = "ollama/ollama:rocm"
    image_vllm: str = "vllm/vllm-openai:latest"
    image_vllm_amd: str = "rocm/vllm:latest"
    hf_endpoint: str = ""
    """A mirror of the Hugging Face hub; empty: the hub itself."""
    log_level: str = "info"
    build: str = "unknown"
    """What the source that runs calls itself; /version of the health port answers with it. Images set it."""


def load(environment: Mapping[str, str]) -> Settings:
    """Read the settings; SettingsError names the variable that is wrong."""
    given = {
        name[len(PREFIX) :].lower(): value for name, value in environment.items() if name.startswith(PREFIX)
    }
    try:
        return msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        field = str(error).rpartition("$.")[2].rstrip("`")
        raise SettingsError(f"{PREFIX}{field.upper()}: {str(error).partition(' - at')[0]}") from error
