"""user_settings: the settings of the environment of `flexinfer up` that its components read. Pure.

What an instance sets itself is refused by name: it would be dropped, and the user would wait for what it promises.
"""

from collections.abc import Mapping

from flexinfer.local.instance import InstanceError
from flexinfer.local.ports import HOST
from flexinfer.runtime import settings

SET_BY_THE_INSTANCE: Mapping[str, str] = {
    **dict.fromkeys(
        ("nats_url", "nats_user", "nats_password_file", "nats_ca_file", "nats_replicas"),
        "the instance runs its own NATS",
    ),
    **dict.fromkeys(
        ("bootstrap_nats_user", "bootstrap_nats_password_file"), "the instance runs its own NATS"
    ),
    "kubeconfig": "the instance runs its own Kubernetes API",
    "identity": "an instance has the name that it was created with",
    **dict.fromkeys(
        ("health_port", "health_host", "health_port_file"), "`flexinfer services` shows what it serves"
    ),
    "node_name": "the node of the instance has a name",
    "simulated_gpus": "use --simulate-gpus",
    "proxy_port_file": "the port is in OPENAI_BASE_URL of `flexinfer env`",
    "api_key_file": "the key is in secrets/api.key of the state folder; replace it there, then start again",
    "image": "the local node runs this installation",
    "build": "images have it",
}
"""Field of Settings -> why an instance sets it, or what does in its place."""
EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 -- what a user may ask for; requests need the API key
_HOSTS = (HOST, *EVERY_ADDRESS)


def chosen(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the components of an instance get from the user. Raises InstanceError, SettingsError."""
    values = settings.load(environment)
    for field, why in SET_BY_THE_INSTANCE.items():
        if environment.get(name := settings.variable(field), "").strip():
            raise InstanceError(f"{name} is set by `flexinfer up` itself ({why}): unset it")
    if values.proxy_host not in _HOSTS:
        raise InstanceError(
            f"{settings.variable('proxy_host')} is {values.proxy_host!r}: with `flexinfer up` the proxy listens on {HOST}, "
            f"or on every address of this machine: {' or '.join(EVERY_ADDRESS)}"
        )
    return {name: value for name, value in environment.items() if settings.is_set(name, value)}


def differing(choices: Mapping[str, str], running: Mapping[str, str]) -> list[str]:
    """Return in words which settings that the user wants now differ from those of what runs; a variable that is not set asks for nothing.

    `running` are the variables of its programs. Raises SettingsError.
    """
    differences = []
    for name in sorted(choices):
        current = {name: running[name]} if name in running else {}
        if settings.load({name: choices[name]}) != settings.load(current):
            differences.append(f"{name} is {running.get(name, 'not set')}, not {choices[name]}")
    return differences


def proxy_port(variables: Mapping[str, str]) -> int:
    """Return the port that the user wants for the proxy; 0: none in particular."""
    return settings.load(variables).proxy_port
