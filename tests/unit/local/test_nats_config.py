"""nats-server's configuration for one machine."""

import json
from pathlib import Path

from flexinfer.local import nats_config


def test_the_configuration_syncs_every_write_and_listens_where_told() -> None:
    """JetStream's file store must not lose what it acked."""
    text = nats_config.configuration(host="127.0.0.1", port=4, store=Path("/s"), passwords={"tap": "p"})
    config = json.loads(text)
    assert (config["host"], config["port"]) == ("127.0.0.1", 4)
    assert config["jetstream"]["sync_interval"] == "always"
    assert [user["user"] for user in config["authorization"]["users"]] == ["tap"]
