"""The programs of a real control plane, and Helm for the tests of the chart: found on this machine or built into the cache."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from localkube.controlplane import programs
from localkube.controlplane.catalogue import Source
from localkube.controlplane.programs import LocatedProgram, ProgramError, Report

__all__ = ["HELM", "LocatedProgram", "ProgramError", "Report", "cache_folder", "find", "locate", "target"]

HELM = Source(
    name="helm",
    version="3.22.0",
    module="helm",
    package="helm.sh/helm/v3/cmd/helm",
    oldest=(3, 16),
    below=(4, 0),
    settings=("helm.sh/helm/v3/internal/version.version=v3.22.0",),
    version_args=("version",),
    minutes=2,
)
"""Renders deploy/chart in the tests."""


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return the user's cache folder of built programs."""
    base = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "flexinfer" / "programs"


def locate(sources: Sequence[Source], environment: Mapping[str, str], report: Report) -> dict[str, Path]:
    """Return name -> path of every program, built if necessary. Raises ProgramError for the first that can be neither found nor built."""
    return programs.locate(sources, environment, report, cache_folder(environment))


def find(source: Source, environment: Mapping[str, str], report: Report) -> LocatedProgram | None:
    """Return the first suitable program on this machine, None if there is none."""
    return programs.find(source, environment, report, cache_folder(environment))


def target(source: Source, environment: Mapping[str, str]) -> Path:
    """Return the path of a program in the cache."""
    return programs.target(source, cache_folder(environment))
