"""Settings: what the environment says, as typed fields named after their variable.

`FLEXINFER_HEALTH_PORT` is `health_port`; every variable that begins with `FLEXINFER_IMAGE_` is an entry of `images`. A bad value stops the
process with its variable and what it should be; an unknown variable is named in a warning, with the nearest known one. Space around a value
does not count, and an empty one is the default, as where a ConfigMap or a unit file leaves a variable empty.
"""

import re
from collections.abc import Collection, Mapping
from typing import Annotated

import msgspec

from flexinfer.api.nearest import nearest
from flexinfer.sources.pod import Hub, PodDefaults

PREFIX = "FLEXINFER_"
IMAGE_PREFIX = f"{PREFIX}IMAGE_"
PROGRAM_PREFIX = f"{PREFIX}PROGRAM_"
_IMAGES_FIELD = "images"
_ARCHITECTURE = re.compile("_(SM_[0-9]{1,3}|GFX[0-9A-F]{3,4})$")
"""How the variable of an image for one architecture ends, or for those that begin so."""
_HUB_VARIABLE = "HF_ENDPOINT"
"""The hub's own variable, which users of a mirror have set."""
_EMPTY_COUNTS = frozenset({"cors_origins"})
"""Fields for which an empty variable says something else than the default."""

_YEAR = 31_536_000
Port = Annotated[
    int, msgspec.Meta(ge=0, le=65535, description="a TCP port, a whole number from 0 to 65535, is required")
]
Seconds = Annotated[
    float, msgspec.Meta(ge=0, le=_YEAR, description=f"a number of seconds from 0 to {_YEAR} is required")
]
Period = Annotated[
    float,
    msgspec.Meta(gt=0, le=_YEAR, description=f"a number of seconds above 0, at most {_YEAR}, is required"),
]
Replicas = Annotated[int, msgspec.Meta(ge=1, le=5, description="a whole number from 1 to 5 is required")]
MiB = Annotated[
    int, msgspec.Meta(ge=1, le=65536, description="a whole number of MiB from 1 to 65536 is required")
]
BaseUrl = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(https?://[^\s/]\S*)?$",
        description="a URL that begins with http:// or https:// is required",
    ),
]
Level = Annotated[
    str,
    msgspec.Meta(
        pattern="^(debug|info|warning|error)$", description="debug, info, warning or error is required"
    ),
]
"""What a value must be; the description is what a message says of it."""


NO_WEBSOCKET = "NATS is not reached by WebSockets; name its nats:// or tls:// address"


class SettingsError(ValueError):
    """A variable of the environment has a value that it cannot have."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set. The text below a field is its meaning on the settings page."""

    nats_url: str = "nats://127.0.0.1:4222"
    """Address of the NATS server. The default is where `flexinfer up` and a developer's own server listen; manifests set the Service's. WebSockets (ws://, wss://) are not used."""
    nats_user: str = ""
    """User at NATS: the name of the service, whose permissions it has. Empty: the server requires no login."""
    nats_password_file: str = ""
    """File that holds the password of nats_user, read for each attempt to connect. Empty: no password."""
    nats_ca_file: str = ""
    """CA certificate that signed NATS' own; with one, nothing is sent before the connection is encrypted. Empty: no TLS."""
    nats_replicas: Replicas = 1
    """How many NATS servers keep a copy of each stream; read when the stream is created. 3 where three servers run."""
    bootstrap_nats_user: str = ""
    """User at NATS that may create streams; set for the watcher alone. Empty: nats_user creates them."""
    bootstrap_nats_password_file: str = ""
    """File that holds the password of bootstrap_nats_user. Empty: no password."""
    kubeconfig: str = ""
    """Kubeconfig file of the Kubernetes API. Empty: the service account of the Pod that the process runs in."""
    identity: str = "local"
    """Holder name of this replica in its Lease; it must differ between replicas. Manifests set the Pod's uid, `flexinfer up` the instance."""
    health_port: Port = 0
    """TCP port of /healthz, /readyz, /version and /metrics. 0: any free port, written to health_port_file; manifests set 8081."""
    health_port_file: str = ""
    """File that the port in use for health is written to, for the program that started the process. Empty: none."""
    health_host: str = "127.0.0.1"
    """Address that the health port listens on. The default is reached from this machine alone; manifests set 0.0.0.0 for the kubelet."""
    extender_port: Port = 0
    """TCP port of the placer's scheduler extender, which kube-scheduler asks. 0: it is not served; manifests set 8083."""
    extender_host: str = "127.0.0.1"
    """Address that the scheduler extender listens on. The default is reached from this machine alone; manifests set 0.0.0.0."""
    node_name: str = ""
    """Name of the node that an agent reports on; required for the agent, not read by other services."""
    simulated_gpus: str = ""
    """File of simulated devices, which the agent reports in place of those of its node; `flexinfer up --simulate-gpus` sets it. Empty: none."""
    runtime_class_nvidia: str = ""
    """RuntimeClass that gives Pods NVIDIA GPUs by NVIDIA_VISIBLE_DEVICES where neither a device plugin nor a DRA driver does, and that engines on devices of a plugin have. Empty: none."""
    runtime_class_amd: str = ""
    """The same for AMD GPUs, by AMD_VISIBLE_DEVICES. Empty: none."""
    runtime_class: str = ""
    """RuntimeClass of the engines and Jobs of Models that name none, where their GPUs need none. Empty: the runtime that is each node's default."""
    pull_secrets: str = ""
    """Secrets with which images of engines and Jobs are pulled, separated by commas, in the namespace of each Model; spec.imagePullSecrets is used instead where it is set. Empty: none."""
    cluster_domain: str = "cluster.local"
    """DNS domain of the cluster, the last part of the name that a Model's Service points to. The default is that of most clusters."""
    proxy_port: Port = 0
    """TCP port of the proxy. 0: any free port, written to proxy_port_file; manifests set 8080."""
    proxy_host: str = "127.0.0.1"
    """Address that the proxy listens on. The default is reached from this machine alone; manifests set 0.0.0.0."""
    proxy_port_file: str = ""
    """File that the port in use for the proxy is written to. Empty: none."""
    proxy_base_url: BaseUrl = "http://flexinfer-proxy.flexinfer-system.svc"
    """Address of the proxy as status.endpoint of a Model begins with it. The default is the proxy's Service in a cluster."""
    default_namespace: str = "default"
    """Models of this namespace can be named without their namespace in a request to the proxy."""
    api_key_file: str = ""
    """File that holds the API key that requests must carry, as a bearer token or in x-api-key. Empty: the proxy requires no key."""
    queue_seconds: Seconds = 600.0
    """How long a request may queue for a slot of a Ready model, in seconds; coldStartTimeout is for models that are not. The default is OpenAI's clients' own."""
    body_limit_mib: MiB = 64
    """The largest body of a request to the proxy, in MiB. The default has room for several images as base64."""
    cors_origins: str = "*"
    """Web pages that may use the proxy, separated by commas, such as https://chat.example.com,http://localhost:*. *: all; empty: none."""
    drain_seconds: Seconds = 30.0
    """How long a stop waits for requests in flight, in seconds. The default is a Pod's usual grace period."""
    loading_seconds: Period = 600.0
    """How long an engine may load without progress before its start fails, in seconds; a backend with slower starts sets more. Progress is another stage, a new answer of its health endpoint, or more memory on its GPUs."""
    memory_free_seconds: Seconds = 5.0
    """On nodes without GPU telemetry: how long after its Pod is gone a device counts as free, in seconds. Drivers free memory within one or two."""
    relist_seconds: Period = 60.0
    """How often the watcher compares all objects of the API with the state stream, in seconds, varied by 20 %: any loss is repaired within it."""
    silence_seconds: Period = 70.0
    """How long a watch of the API may be silent before it is opened again, in seconds. API servers send a bookmark every minute."""
    image: str = "ghcr.io/flexinfer/flexinfer:latest"
    """FlexInfer's own image, which Jobs and init containers run. Manifests set the release's."""
    images: Mapping[str, str] = {}
    """Images of engines, one variable a backend or a backend on one vendor, such as FLEXINFER_IMAGE_VLLM_AMD. Empty: each backend's default."""
    hf_endpoint: BaseUrl = ""
    """Base URL of a mirror of the Hugging Face hub. Empty: HF_ENDPOINT of the environment, else https://huggingface.co."""
    ollama_registry: BaseUrl = ""
    """Base URL of a mirror of the Ollama registry. Empty: https://registry.ollama.ai."""
    download_proxy: str = ""
    """Proxy for downloads, such as http://proxy:3128. Empty: none; on the local node, the proxy of the environment of `flexinfer up`."""
    download_no_proxy: str = ""
    """Hosts that downloads reach without download_proxy, in the form of NO_PROXY."""
    download_ca_configmap: str = ""
    """ConfigMap with the key ca.crt, the authorities that downloads trust, in the namespace of each Model. Empty: those of the image."""
    log_level: Level = "info"
    """Lowest level that is logged: debug, info, warning or error."""
    build: str = "unknown"
    """Identifier of the running source, which /version of the health port returns. Images set it."""


OTHER_VARIABLES: Mapping[str, str] = {
    "FLEXINFER_STATE": "State folder of the command line; without it, the user's state folder.",
    "FLEXINFER_API_URL": "Set by `flexinfer up`: which API server a process of the instance was started for.",
    "FLEXINFER_NATS_CONFIG": "Set by `flexinfer up`: digest of the configuration that NATS was started with.",
    "FLEXINFER_SIMULATION": "Set by `flexinfer up`: digest of the simulated nodes that a process was started for.",
    "FLEXINFER_PROCESS": "Set by `flexinfer up`: marks a process as part of the instance.",
    "FLEXINFER_RUN": "Set by the local node: the folder of a container's run.",
    "FLEXINFER_MOUNTS": "Set by the local node: JSON of mount path -> folder, for FlexInfer's own Jobs.",
    "FLEXINFER_AUDIT": "Tests: the folder that audit logs of a control plane are kept in.",
    "FLEXINFER_DOWNLOAD_KILLS": "Tests: how many times a download is killed; from 50 on, one of 1 GiB.",
    "FLEXINFER_SEEDS": "Tests: how many histories the simulation runs.",
    "FLEXINFER_TEST_CLUSTER": "Tests: marks the processes of a node that a test started.",
}
"""Variables that begin with the prefix and are no setting of a service; they cause no warning."""


def load(environment: Mapping[str, str]) -> Settings:
    """Return the settings. Raises SettingsError, naming the variable, its value and what it should be."""
    values = {field: environment[name].strip() for field, name in _variables().items() if name in environment}
    fields = {field: value for field, value in values.items() if value or field in _EMPTY_COUNTS}
    names = _variables()
    if "hf_endpoint" not in fields and (mirror := environment.get(_HUB_VARIABLE, "").strip()):
        fields["hf_endpoint"], names["hf_endpoint"] = mirror, _HUB_VARIABLE
    if "log_level" in fields:
        fields["log_level"] = fields["log_level"].lower()
    if is_websocket(fields.get("nats_url", "")):
        raise SettingsError(f"{variable('nats_url')}: {NO_WEBSOCKET}")
    try:
        return msgspec.convert(fields | {_IMAGES_FIELD: _images(environment)}, Settings, strict=False)
    except msgspec.ValidationError as error:
        field = str(error).rpartition("$.")[2].rstrip("`")
        raise SettingsError(
            f"{names[field]} is {fields[field]!r}: {_required(field)}; correct it or unset it"
        ) from error


def _required(field: str) -> str:
    kinds = {entry.name: entry.type for entry in msgspec.structs.fields(Settings)}
    (meta,) = kinds[field].__metadata__
    return str(meta.description)


def is_websocket(nats_url: str) -> bool:
    """Return whether an address of NATS, or one of several, is that of a WebSocket."""
    return any(one.strip().startswith(("ws://", "wss://")) for one in nats_url.split(","))


def hub_of(settings: Settings) -> Hub:
    """Return how downloads reach hub and registry."""
    return Hub(
        endpoint=settings.hf_endpoint,
        registry=settings.ollama_registry,
        proxy=settings.download_proxy,
        no_proxy=settings.download_no_proxy,
        authorities=settings.download_ca_configmap,
    )


def pod_defaults_of(settings: Settings) -> PodDefaults:
    """Return what the Pods of Models get that do not name it themselves."""
    names = (name.strip() for name in settings.pull_secrets.split(","))
    return PodDefaults(
        pull_secrets=tuple(name for name in names if name), runtime_class=settings.runtime_class
    )


def runtime_classes_of(settings: Settings) -> dict[str, str]:
    """Return vendor -> the RuntimeClass of its GPUs, of those that are set."""
    classes = {"nvidia": settings.runtime_class_nvidia, "amd": settings.runtime_class_amd}
    return {vendor: name for vendor, name in classes.items() if name}


def warnings(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return a sentence for every variable with the prefix that nothing reads: its name, and the nearest one that something does."""
    readable = {*_variables().values(), *OTHER_VARIABLES}
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in readable)
    if not unknown:
        return ()
    images = image_variables()
    readable |= {*images, *program_variables()}
    return tuple(
        f"{name} is not a setting and is ignored; {_remedy(name, readable)}"
        for name in unknown
        if name not in readable and _ARCHITECTURE.sub("", name) not in images
    )


def image_variables() -> tuple[str, ...]:
    """Return every variable that replaces the image of a backend."""
    from flexinfer import backends  # noqa: PLC0415 -- 1 MiB that an agent need not spend on a variable that is misspelled

    return tuple(f"{IMAGE_PREFIX}{key.upper()}" for key in backends.image_keys())


def program_variables() -> tuple[str, ...]:
    """Return every variable that names the program of an engine on the local node."""
    from flexinfer import backends  # noqa: PLC0415 -- as above

    return tuple(f"{PROGRAM_PREFIX}{name.upper().replace('-', '_')}" for name in backends.local_programs())


def _remedy(name: str, readable: Collection[str]) -> str:
    near = nearest(name, readable)
    return f"did you mean {near}?" if near else "remove it"


def variable(field: str) -> str:
    """Return the variable of a field."""
    return f"{PREFIX}{field.upper()}"


def is_set(name: str, value: str) -> bool:
    """Return whether a variable is read as a setting, and this value is no default."""
    if value.strip():
        return name in _variables().values() or name.startswith(IMAGE_PREFIX)
    return name in {variable(field) for field in _EMPTY_COUNTS}


def _variables() -> dict[str, str]:
    """Return field -> variable of every setting that is one variable."""
    fields = (field for field in Settings.__struct_fields__ if field != _IMAGES_FIELD)
    return {field: variable(field) for field in fields}


def _images(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(IMAGE_PREFIX).lower(): value.strip()
        for name, value in environment.items()
        if name.startswith(IMAGE_PREFIX) and value.strip()
    }
