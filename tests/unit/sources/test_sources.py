"""Sources: the exact grammar of each scheme, and where an engine finds what it names."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer import backends, sources
from flexinfer.api.model import Cache, Model
from flexinfer.api.reasons import Reason
from flexinfer.sources import Location, Source, SourceError, Volume, ollama
from flexinfer.sources.hf import files, split_parts
from tests.builders import a_model


def kept(cache: Cache) -> Model:
    """Return a Model of the hub whose weights are kept in a way."""
    model = a_model(source="HF://a/b")
    return msgspec.structs.replace(model, spec=msgspec.structs.replace(model.spec, cache=cache))


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("HF://org/repo.v1-GGUF", Source(scheme="HF", name="org/repo.v1-GGUF")),
        ("ollama://llama3:8b", Source(scheme="ollama", name="llama3:8b")),
        ("ollama://hf.co/org/repo:Q4", Source(scheme="ollama", name="hf.co/org/repo:Q4")),
        ("file:///weights/m.gguf", Source(scheme="file", path="/weights/m.gguf")),
        ("pvc://models/a/b.gguf", Source(scheme="pvc", name="models", path="a/b.gguf")),
        ("pvc://models", Source(scheme="pvc", name="models")),
        ("pvc://models/folder/", Source(scheme="pvc", name="models", path="folder")),
    ],
)
def test_a_uri_names_a_source(uri: str, source: Source) -> None:
    """Each of the four schemes."""
    assert sources.parse(uri) == source


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "llama3",
        "s3://bucket/x",
        "hf://org/repo",
        "HF://repo",
        "HF://a/b/c",
        "HF://../x",
        "HF://a/..",
        "ollama://",
        "ollama://a b",
        "ollama://$(id)",
        "ollama://169.254.169.254/library/x",
        "ollama://2852039166/library/x",
        "ollama://localhost/library/x",
        "ollama://HF.co/library/x",
        "ollama://hf.co/a/b/c",
        "file://host/x",
        "file:///",
        "file:///a/../b",
        "file:///proc/1/environ",
        "file:///var/run/secrets/kubernetes.io/serviceaccount/token",
        "file:///etc/",
        "HF://x@169.254.169.254",
        "HF://[::1]/x",
        "HF://2852039166",
        "hF://org/repo",
        "file:///a//b",
        "pvc://",
        "pvc://Upper/x",
        "pvc://c/../x",
        "pvc://c/./x",
        "pvc://c//x",
        "pvc://c/a\nb",
    ],
)
def test_what_names_nothing_is_told_the_form(uri: str) -> None:
    """No exception, a reason, and the way to write it (reliability X14) (reliability X15)."""
    found = sources.parse(uri)
    assert isinstance(found, SourceError)
    assert found.reason == Reason.INVALID_SOURCE
    assert "://" in found.message


@given(st.text() | st.builds("{}://{}".format, st.sampled_from(sources.names()), st.text()))
def test_parsing_is_total_and_never_leaves_the_mount(uri: str) -> None:
    """Whatever is written, the path stays where it belongs."""
    found = sources.parse(uri)
    if isinstance(found, Source):
        assert ".." not in found.path.split("/")
        location = sources.locate(a_model(source=uri))
        assert location is not None
        assert location.volume is not Volume.CLAIM or location.path.startswith(sources.MOUNT)


def test_a_claim_is_mounted_whole_and_named_by_path() -> None:
    """As the reference promises: at /models."""
    assert sources.locate(a_model(source="pvc://c/a.gguf")) == Location(
        path="/models/a.gguf", volume=Volume.CLAIM, claim="c"
    )


def test_fetched_weights_lie_in_a_folder_of_their_choice_of_files() -> None:
    """Another revision is another folder, so nothing stale can be taken for it."""
    one = sources.locate(a_model(source="HF://a/b", config={"hfRevision": "v1"}))
    other = sources.locate(a_model(source="HF://a/b", config={"hfRevision": "v2"}))
    assert one is not None
    assert other is not None
    assert (one.claim, one.owned, one.volume) == ("llama-cache", True, Volume.CLAIM)
    assert one.path != other.path


@pytest.mark.parametrize(
    ("written", "short", "path"),
    [
        ("llama3", "llama3:latest", "registry.ollama.ai/library/llama3/latest"),
        ("library/llama3:8b", "llama3:8b", "registry.ollama.ai/library/llama3/8b"),
        ("me/llama3:8b", "me/llama3:8b", "registry.ollama.ai/me/llama3/8b"),
        ("registry.ollama.ai/library/llama3", "llama3:latest", "registry.ollama.ai/library/llama3/latest"),
        ("hf.co/org/repo:Q4", "hf.co/org/repo:Q4", "hf.co/org/repo/Q4"),
    ],
)
def test_a_name_of_ollama_has_the_parts_and_the_short_form_that_ollama_gives_it(
    written: str, short: str, path: str
) -> None:
    """Its list says the short one, and readiness is judged by that."""
    name = ollama.name_of(written)
    assert (name.short, "/".join(name)) == (short, path)
    backend = backends.find("ollama")
    assert backend is not None
    assert backend.served_name("m", a_model(source=f"ollama://{written}", backend="ollama").spec) == short


def test_names_of_ollama_lie_on_a_claim_by_default() -> None:
    """As those of the hub do; both spellings of a name are one folder."""
    one, other = (sources.locate(a_model(source=f"ollama://{name}")) for name in ("x", "library/x:latest"))
    assert one == other
    assert one is not None
    assert (one.claim, one.owned, one.volume) == ("llama-cache", True, Volume.CLAIM)


def test_folders_of_the_hub_keep_their_names() -> None:
    """They are digests of the selection: another digest would download everything again."""
    assert files(a_model(source="HF://a/b").spec).fingerprint == "a3392d2eed81"


@pytest.mark.parametrize(
    ("strategy", "reason", "volume", "claim"),
    [
        ("None", "PulledByEngine", Volume.DISK, ""),
        ("Memory", "Cached", Volume.CLAIM, "llama-cache"),
        ("Memory", "PulledByEngine", Volume.CLAIM, "llama-cache"),
        ("Memory", "NoClaim", Volume.MEMORY, ""),
        ("SharedPVC", "NoClaim", Volume.CLAIM, "llama-cache"),
    ],
)
def test_a_strategy_without_a_claim_fetches_into_the_pod(
    strategy: str, reason: str, volume: Volume, claim: str
) -> None:
    """None always does, Memory where Cached says that no claim is available."""
    model = kept(Cache(strategy=strategy))
    status = a_model(conditions=(("Cached", "True", reason),)).status
    location = sources.locate(msgspec.structs.replace(model, status=status))
    assert location is not None
    assert (location.volume, location.claim, location.fetched) == (volume, claim, True)


def test_picking_a_file_fetches_that_file_and_what_was_asked_for_beside_it() -> None:
    """A repository of twenty quantisations is not pulled whole."""
    model = a_model(
        source="HF://a/b",
        config={
            "ggufFile": "q4.gguf",
            "mmproj": "mm.gguf",
            "hfAllowPatterns": "*.json, q4.gguf",
            "hfIgnorePatterns": ["x*"],
        },
    )
    found = files(model.spec)
    assert (found.names, found.allow, found.ignore) == (
        ("q4.gguf", "mm.gguf"),
        ("*.json", "q4.gguf"),
        ("x*",),
    )


def test_a_named_claim_must_exist_and_is_not_ours() -> None:
    """`pvcName` is the user's own."""
    found = sources.locate(kept(Cache(pvc_name="mine")))
    assert found is not None
    assert (found.claim, found.owned) == ("mine", False)


def test_one_part_of_a_split_file_names_all_parts() -> None:
    """One of three is no model."""
    parts = tuple(f"q/m-0000{part}-of-00003.gguf" for part in (1, 2, 3))
    model = a_model(source="HF://a/b", config={"ggufFile": parts[1]})
    assert files(model.spec).names == parts


@pytest.mark.parametrize(
    "name",
    ["m.gguf", "m-00000-of-00003.gguf", "m-00004-of-00003.gguf", "m-1-of-3.gguf", "m-00001-of-99999.gguf"],
)
def test_a_name_that_is_no_part_stays_one_file(name: str) -> None:
    """The number of parts is bounded."""
    assert split_parts(name) == (name,)
