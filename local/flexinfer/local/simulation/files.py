"""Files of a simulation: what the user wrote, the copy that an instance starts its nodes from, and where each node keeps its state."""

from pathlib import Path

import msgspec

from flexinfer.local.instance import Instance, InstanceError, write_private
from flexinfer.local.simulation.description import Description, DescriptionError, description_of


class SimulationError(InstanceError):
    """The file of `--simulate-gpus` cannot be used; the message has the remedy."""


class Simulation(msgspec.Struct, frozen=True, kw_only=True):
    """The simulation of an instance: the file that describes it, and what that said when the instance was started."""

    file: str
    described: Description


def read(file: Path) -> Description:
    """Return what a file describes. Raises SimulationError."""
    import yaml  # noqa: PLC0415 -- 1 MiB that `flexinfer up` without such a file need not keep

    try:
        return description_of(yaml.safe_load(file.read_text()))
    except OSError as error:
        raise SimulationError(
            f"{file} cannot be read ({error.strerror}); examples/simulated/homelab.yaml is an example"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SimulationError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    except DescriptionError as error:
        raise SimulationError(f"{file}: {error}") from error


def saved(instance: Instance) -> Simulation | None:
    """Return the simulation of an instance; None if its only node is this machine. Raises SimulationError."""
    copy = path(instance)
    try:
        return msgspec.json.decode(copy.read_bytes(), type=Simulation)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise SimulationError(f"{copy} cannot be read: {error}") from error


def save(instance: Instance, file: Path) -> None:
    """Make the nodes of a file those of an instance. Raises SimulationError."""
    simulation = Simulation(file=str(file.absolute()), described=read(file))
    write_private(path(instance), msgspec.json.format(msgspec.json.encode(simulation)))


def node_state(instance: Instance, node: str) -> Path:
    """Return the state folder of a simulated node."""
    return instance.state / "nodes" / node


def devices(instance: Instance, node: str) -> Path:
    """Return the file that the agent of a simulated node reads in place of a vendor's library."""
    return node_state(instance, node) / "gpus.json"


def path(instance: Instance) -> Path:
    """Return the copy of the description that an instance was started with."""
    return instance.state / "simulation.json"
