"""The page of backends, from their declarations."""

from collections.abc import Iterable

from markdown_cells import cell, codes

from flexinfer import backends
from flexinfer.api.labels import ALLOW_UNSUPPORTED_ANNOTATION
from flexinfer.backends import generations
from flexinfer.backends.checks import CHECKS, IMAGE_CHECKS, STORE_CHECKS
from flexinfer.backends.options import INTEGER, LARGEST, NUMBER, Key
from flexinfer.runtime import settings


def backends_page() -> str:
    """Return the page of backends: what each is, runs on and accepts."""
    sections = "\n".join(_backend(backend) for backend in backends.all_backends())
    return (
        "# Backends\n\n`spec.backend` of a Model is one of these names or aliases. `spec.config` accepts the keys of its backend; any other key, "
        "and a value of another type, is refused by name in the condition `Accepted`. A value is one argument or variable of the engine: no shell "
        "reads it, and `$(NAME)` in it stays as it is. What no key stands for goes into `spec.config.extraArgs`, a list of arguments that FlexInfer does not check, or into "
        "`spec.env`; what FlexInfer sets itself, API keys, the choice of devices and what loads code are refused there.\n\n"
        "`spec.image` replaces the engine's image for one Model. `FLEXINFER_IMAGE_<BACKEND>_<ARCHITECTURE>`, `FLEXINFER_IMAGE_<BACKEND>_<VENDOR>` "
        "or `FLEXINFER_IMAGE_<BACKEND>`, the first that is set, replaces it for all "
        f"(see [Settings](settings.md)). `OMP_NUM_THREADS` is the number of CPUs that the Pod has: its limit, else its request.\n\n{_generations()}\n{_proof()}\n{sections}"
    )


_NOT_READ = (
    "How far a load has come is not read from lines of an engine's log, so there is no check of such lines: no component may read logs, in which "
    "prompts may stand, and an engine that hangs may write without end ([ADR 0032](../adr/0032-progress-of-a-load-is-measured.md)). What is read is the "
    "termination message of an engine that has failed, for the line that names the cause ([ADR 0034](../adr/0034-an-engine-writes-its-own-cause.md)). "
    "A pattern of a failure on a GPU (`CUDA out of memory`) is taken from the source of the engine or of PyTorch: the checks have run on the CPU.\n"
)


def _proof() -> str:
    """Return what was seen of which engine."""
    proven = [
        f"{backend.name} with {backend.proven}" for backend in backends.all_backends() if backend.proven
    ]
    unproven = codes(backend.name for backend in backends.all_backends() if not backend.proven)
    rows, of_images, of_stores = (
        "".join(f"| `{name}` | {meaning} |\n" for name, meaning in checks.items())
        for checks in (CHECKS, IMAGE_CHECKS, STORE_CHECKS)
    )
    return (
        "## What is proven\n\nFlexInfer relies on these of an engine. `tests/engines` runs each check on the real program, with the command line that a "
        f"Model becomes. They have run on {'; '.join(proven)}. Of {unproven} none has run: each of these checks is unproven for them, and what stands "
        "below follows their documentation and lists of flags (`tests/unit/backends/flags`, with the versions that these are from).\n\n"
        f"| Check | What must hold |\n|---|---|\n{rows}\n"
        f"Of `diffusers`, which draws images, these:\n\n| Check | What must hold |\n|---|---|\n{of_images}\n"
        f"Of `ollama`, which loads a model at the first request, these:\n\n| Check | What must hold |\n|---|---|\n{of_stores}\n{_NOT_READ}"
    )


def _generations() -> str:
    """Return the table of GPU generations: which backend cannot run there, which may fail."""
    rows = "".join(
        f"| {g.vendor} `{g.prefix}*` | [{g.name}]({g.source}) | {_with_rules(g, experimental=False)} | {_with_rules(g, experimental=True)} |\n"
        for g in generations.GENERATIONS
    )
    return (
        "## GPU generations\n\nThe placer puts no Model on a GPU that its backend cannot run on, and says so in `Placed`; where it may fail, "
        "`Placed` has a warning. Nothing is known of a generation that is in neither column. The annotation "
        f"`{ALLOW_UNSUPPORTED_ANNOTATION}: <why>` of a Model lets it run anywhere; the reason given is repeated in `Placed`. Details and "
        "sources stand with each backend below.\n\n"
        f"| Architecture | Generation | Cannot run | May fail |\n|---|---|---|---|\n{rows}"
    )


def _with_rules(generation: generations.Generation, *, experimental: bool) -> str:
    ruled = (
        (b, generations.rules(b, generation, experimental=experimental)) for b in backends.all_backends()
    )
    return ", ".join(f"{b.name}{_when(r)}" for b, r in ruled if r)


def _when(rules: Iterable[backends.ArchitectureRule]) -> str:
    """Return for which specs rules hold; empty if for all."""
    cases = [rule.when for rule in rules if rule.when]
    return f" ({'; or '.join(cases)})" if cases else ""


def _rule_lines(rules: Iterable[backends.ArchitectureRule], verb: str) -> str:
    return "".join(
        f"{verb} {rule.vendor} `{rule.prefix}*`{f', with {rule.when}' if rule.when else ''}: {rule.reason} "
        f"([source]({rule.source})).\n\n"
        for rule in rules
    )


def _operations(backend: backends.Backend) -> dict[str, str]:
    """Return the row of what the engine continues after it has answered, if it does."""
    kind = backend.operations
    if kind is None:
        return {}
    text = f"`POST {kind.begun_by}` begins a {kind.noun}, which is [followed](proxy.md#what-continues-after-its-answer) to its end"
    return {"Operations": text}


def _backend(backend: backends.Backend) -> str:
    facts = {
        "Aliases": codes(backend.aliases) or "none",
        "Sources": codes(f"{scheme}://" for scheme in backend.schemes),
        "Port": f"{backend.port}, probed at `{backend.health}`",
        "API": codes((*backend.api_paths, *(f"GET {path}" for path in backend.read_paths))),
        **_operations(backend),
        "On the local node": _local(backend.local_program),
        "GPUs": f"at most {backend.most_devices}"
        if backend.most_devices
        else "as many as `spec.gpu.count` says",
        "Proven": f"with {backend.proven}" if backend.proven else "no: it follows the engine's documentation",
    }
    rows = "".join(f"| {name} | {text} |\n" for name, text in facts.items())
    images = "".join(
        f"| {vendor} | `{image}` | `{settings.IMAGE_PREFIX}{backend.image_key.upper()}_{vendor.upper()}` |\n"
        for vendor, image in backend.images.items()
    )
    gpus = _rule_lines(backend.unsupported_architectures, "Cannot run on")
    gpus += _rule_lines(backend.experimental_architectures, "May fail on")
    keys_ = "".join(_config_key(name, key) for name, key in sorted(backend.keys.items()))
    return (
        f"## {backend.name}\n\n{backend.title}.\n\n| | |\n|---|---|\n{rows}\n"
        f"| Vendor | Default image | Replaced by |\n|---|---|---|\n{images}\n{gpus}"
        f"| Key of `spec.config` | Type | Default | Becomes | Meaning |\n|---|---|---|---|---|\n{keys_}{_refused(backend)}"
    )


def _config_key(name: str, key: Key) -> str:
    bounds = f", at most {key.most:g}" if key.most != LARGEST else ""
    bounds = f", at least {key.least:g}{bounds}" if key.type in (INTEGER, NUMBER) else ""
    kind = f"one of {codes(key.choices)}" if key.choices else f"{key.type}{bounds}"
    becomes = " or ".join(f"`{text}`" for text in (key.flag or key.becomes, key.off) if text)
    default = f"`{key.default}`" if key.default.lstrip("-").isalnum() else key.default
    return f"| `{name}` | {kind} | {cell(default)} | {becomes} | {cell(key.doc)} |\n"


def _refused(backend: backends.Backend) -> str:
    """Return what `extraArgs` and `spec.env` may not hold."""
    by_reason: dict[str, list[str]] = {}
    for flag, why in (backend.extra.denied if backend.extra else {}).items():
        by_reason.setdefault(why, []).append(flag)
    flags = "; ".join(f"{codes(flags)} ({why})" for why, flags in by_reason.items())
    lines = [f"\n`extraArgs` may not hold {flags}, nor what a key sets.\n"] if flags else []
    variables = codes(backend.denied_variables)
    return "".join(lines + ([f"\n`spec.env` may not set {variables}.\n"] if variables else []))


def _local(program: backends.LocalProgram | None) -> str:
    if program is None:
        return "no"
    fallback = f", else `{program.fallback}`" if program.fallback else ""
    return f"`{program.program}`{fallback}; {program.install}"
