"""`flexinfer snapshot`: one page for one state."""

import random

import msgspec
import pytest

from flexinfer.api.membership import GroupMembership
from flexinfer.api.model import Gpu, MetricsStatus, Model
from flexinfer.api.placement import PlacedDevice, Placement
from flexinfer.cli.snapshot_page import Snapshot, page
from tests.builders import a_group, a_holder, a_lease, a_model

METRICS = MetricsStatus(
    tokens_per_second=41.25,
    time_to_first_token_ms=180,
    measured_at="2026-11-29T10:00:00Z",
    engine="llamacpp b1",
)


def measured(model: Model) -> Model:
    """Return a Model with benchmarks."""
    return msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, metrics=METRICS))


MODELS = [
    measured(
        a_model(
            "coder",
            gpu=Gpu(shared="card"),
            litellm={"servedModelName": "gpt-4", "aliases": ["code"]},
            service_labels=("Code",),
            placement=Placement(node="box", devices=(PlacedDevice(uuid="GPU-1"),), footprint_mb=14000),
        )
    ),
    a_model(
        "chat", service_labels=("textgen", "code"), shared_group=GroupMembership(group="card", position=2)
    ),
]
GROUPS = [a_group(a_holder("coder", turn=4), a_holder("", lease="game", turn=3), name="card")]
LEASES = [a_lease("game"), a_lease("later")]


def rows(text: str, section: str) -> list[str]:
    """Return the rows of a section's table, without its head."""
    part = text.partition(f"## {section}\n")[2].partition("\n## ")[0]
    return [line for line in part.splitlines() if line.startswith("|")][2:]


def test_the_page_has_a_section_for_everything_that_is_served() -> None:
    """Models, groups with their holders and queue, names, benchmarks."""
    text = page(Snapshot(MODELS, GROUPS, LEASES))
    assert "| default/chat |" in rows(text, "Models")[0]
    assert "| box | GPU-1 | 14000 MiB | card |" in rows(text, "Models")[1]
    assert rows(text, "Holders") == [
        "| default/card | lease game | 3 | Granted | - |",
        "| default/card | coder | 4 | Granted | - |",
    ]
    assert rows(text, "Queue") == ["| default/card | chat | 2 |"]
    assert rows(text, "LiteLLM aliases") == ["| code | default/coder |", "| gpt-4 | default/coder |"]
    assert rows(text, "Labels") == ["| code | default/chat, default/coder |", "| textgen | default/chat |"]
    assert rows(text, "Benchmarks") == [
        "| default/coder | 41.2 | 180 ms | llamacpp b1 | 2026-11-29T10:00:00Z |"
    ]


@pytest.mark.parametrize("seed", range(10))
def test_the_same_objects_give_the_same_text_in_any_order(seed: int) -> None:
    """So that two pages differ only in what has changed."""
    draw = random.Random(seed)
    shuffled = Snapshot(
        draw.sample(MODELS, len(MODELS)), draw.sample(GROUPS, len(GROUPS)), draw.sample(LEASES, len(LEASES))
    )
    assert page(shuffled) == page(Snapshot(MODELS, GROUPS, LEASES))


def test_an_empty_cluster_has_a_page_too() -> None:
    """Every section says that it is empty."""
    text = page(Snapshot())
    assert text.count("None.") == text.count("## ") == 7
    assert text.endswith("\n")


def test_what_people_write_is_text_and_no_markup() -> None:
    """A cell never ends, and a page that is rendered runs nothing."""
    hostile = "a|b\n<script>`*_[x](y)"
    (row,) = rows(page(Snapshot([a_model("m", litellm={"servedModelName": hostile})])), "LiteLLM aliases")
    assert row == "| a\\|b &lt;script&gt;\\`\\*\\_\\[x](y) | default/m |"
