"""Evaluates the Tiltfile without Tilt, by a Starlark engine: stubs that know the signatures which Tilt documents, and note each call."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import starlark
import yaml

from localkube.yaml_documents import documents

ROOT = Path(__file__).resolve().parents[3]
Json = dict[str, Any]

# name -> (how many are required, what may be given), as Tilt 0.37 documents them.
SIGNATURES: Mapping[str, tuple[int, str]] = {
    "allow_k8s_contexts": (1, "contexts"),
    "ci_settings": (0, "k8s_grace_period timeout readiness_timeout"),
    "custom_build": (
        3,
        (
            "ref command deps tag disable_push skips_local_docker live_update match_in_env_vars ignore entrypoint container_args "
            "command_bat_val outputs_image_ref_to command_bat image_deps env dir"
        ),
    ),
    "decode_json": (1, "json"),
    "decode_yaml_stream": (1, "yaml"),
    "default_registry": (1, "host host_from_cluster single_name"),
    "docker_build": (
        2,
        (
            "ref context build_args dockerfile dockerfile_contents live_update match_in_env_vars ignore only entrypoint target ssh "
            "network secret extra_tag container_args cache_from pull platform extra_hosts"
        ),
    ),
    "fail": (1, "msg"),
    "fall_back_on": (1, "files"),
    "k8s_context": (0, ""),
    "k8s_kind": (1, "kind api_version image_json_path image_object_json_path pod_readiness"),
    "k8s_resource": (
        0,
        (
            "workload new_name port_forwards extra_pod_selectors trigger_mode resource_deps objects auto_init pod_readiness links labels "
            "discovery_strategy"
        ),
    ),
    "k8s_yaml": (1, "yaml allow_duplicates"),
    "kustomize": (1, "pathToDir kustomize_bin flags"),
    "link": (1, "url name"),
    "local": (1, "command quiet command_bat echo_off env dir stdin"),
    "local_resource": (
        1,
        (
            "name cmd deps trigger_mode resource_deps ignore auto_init serve_cmd cmd_bat serve_cmd_bat allow_parallel links labels env "
            "serve_env readiness_probe dir serve_dir"
        ),
    ),
    "port_forward": (1, "local_port container_port name link_path host"),
    "read_file": (1, "file_path default"),
    "read_yaml": (1, "path default"),
    "sync": (2, "local_path remote_path"),
    "update_settings": (
        0,
        "max_parallel_updates k8s_upsert_timeout_secs suppress_unused_image_warnings k8s_server_side_apply",
    ),
    "version_settings": (0, "check_updates constraint"),
    "v1alpha1.cmd": (
        1,
        "name labels annotations args dir env readiness_probe restart_on start_on disable_source",
    ),
    "v1alpha1.start_on_spec": (0, "start_after ui_buttons"),
    "v1alpha1.ui_button": (
        1,
        "name labels annotations location text icon_name icon_svg disabled requires_confirmation inputs",
    ),
    "v1alpha1.ui_component_location": (0, "component_id component_type"),
    "v1alpha1.ui_input_spec": (0, "name label text bool hidden choice"),
    "v1alpha1.ui_text_input_spec": (0, "default_value placeholder"),
    "config.define_string": (1, "name args usage"),
    "config.define_string_list": (1, "name args usage"),
    "config.parse": (0, ""),
}
_PRELUDE = """
config = struct(define_string=_config_define_string, define_string_list=_config_define_string_list, parse=_config_parse)
v1alpha1 = struct(cmd=_v1alpha1_cmd, start_on_spec=_v1alpha1_start_on_spec, ui_button=_v1alpha1_ui_button,
    ui_component_location=_v1alpha1_ui_component_location, ui_input_spec=_v1alpha1_ui_input_spec,
    ui_text_input_spec=_v1alpha1_ui_text_input_spec)
os = struct(getenv=_getenv, path=struct(exists=_exists, join=_join))
"""


class Call(msgspec.Struct, frozen=True):
    """One call of a function of Tilt's, by the names of its parameters."""

    name: str
    given: Json


class Tilt:
    """A Tilt that builds and applies nothing. `machine` is what deploy/dev/detect.py would say."""

    def __init__(self, machine: Json, files: Mapping[str, str], **settings: Any) -> None:
        self.calls: list[Call] = []
        self._machine, self._files, self._settings = machine, files, settings

    def evaluate(self) -> None:
        """Evaluate the Tiltfile; what Tilt would refuse raises."""
        dialect = starlark.Dialect.standard()
        dialect.enable_top_level_stmt = True
        dialect.enable_f_strings = False
        module, names = (
            starlark.Module(),
            starlark.Globals.extended_by([starlark.LibraryExtension.StructType]),
        )
        for name in SIGNATURES:
            stub = name if "." not in name else f"_{name.replace('.', '_')}"
            module.add_callable(stub, self._stub(name))
        helpers: Mapping[str, Callable[..., Any]] = {
            "_getenv": self._getenv,
            "_exists": _exists,
            "_join": _join,
        }
        for name, call in helpers.items():
            module.add_callable(name, call)
        starlark.eval(module, starlark.parse("prelude", _PRELUDE, dialect), names)
        starlark.eval(module, starlark.parse("Tiltfile", (ROOT / "Tiltfile").read_text(), dialect), names)

    def of(self, name: str) -> list[Json]:
        """Return what a function was called with, call by call."""
        return [call.given for call in self.calls if call.name == name]

    def resources(self) -> dict[str, list[str]]:
        """Return what each resource waits for."""
        found = {call["name"]: call.get("resource_deps", []) for call in self.of("local_resource")}
        return found | {
            call.get("new_name") or call["workload"]: call.get("resource_deps", [])
            for call in self.of("k8s_resource")
        }

    def _stub(self, name: str) -> Callable[..., Any]:
        required, text = SIGNATURES[name]
        parameters = text.split()

        def stub(*values: Any, **named: Any) -> Any:
            given = dict(zip(parameters, values, strict=False)) | named
            unknown = [key for key in named if key not in parameters]
            if unknown or len(values) > len(parameters):
                raise TypeError(f"{name} takes no {unknown or values[len(parameters) :]}")
            if lacking := [key for key in parameters[:required] if key not in given]:
                raise TypeError(f"{name} needs {lacking}")
            self.calls.append(Call(name, given))
            return self._answer(name, given)

        return stub

    def _answer(self, name: str, given: Json) -> Any:
        match name:
            case "fail":
                raise ValueError(given["msg"])
            case "config.parse":
                return self._settings
            case "local":
                return msgspec.json.encode(self._machine).decode()
            case "decode_json":
                return msgspec.json.decode(given["json"])
            case "k8s_context":
                return "c"
            case "read_file":
                return self._files.get(given["file_path"], given.get("default", ""))
            case "read_yaml":
                return yaml.safe_load(self._files.get(given["path"], "")) or given.get("default")
            case "kustomize":
                return kustomized()
            case "decode_yaml_stream":
                return documents(given["yaml"])
            case _:
                return {"made_by": name}

    def _getenv(self, name: str, default: str = "") -> str:
        return {"KUBECONFIG": "kubeconfig"}.get(name, default)


def kustomized() -> str:
    """Return what Tilt applies of our own manifests."""
    words = (str(Path(sys.executable).with_name("kubectl")), "kustomize", str(ROOT / "deploy/overlays/tilt"))
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def _exists(path: str) -> bool:
    return (ROOT / path).exists()


def _join(*parts: str) -> str:
    return "/".join(parts)
