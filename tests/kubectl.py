"""kubectl in a separate namespace for each test."""

import itertools
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.apiserver import ApiServer
from tests.instance import BIN
from tests.patience import patient

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Output:
    """Exit code and output of a program."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Kubectl:
    """kubectl with its own kubeconfig, home directory and namespace."""

    environment: dict[str, str]
    namespace: str

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start kubectl and return the running process."""
        program = str(BIN / "kubectl")
        return subprocess.Popen(
            [program, f"--namespace={self.namespace}", *arguments],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, stdin: str = "") -> Output:
        """Run kubectl with `stdin` as its input and return its output, success or failure."""
        process = self.start(*arguments)
        out, err = process.communicate(stdin, timeout=patient(20))
        return Output(process.returncode, out, err)

    def __call__(self, line: str, stdin: str = "") -> str:
        """Run a command line that must succeed; return its standard output."""
        output = self.run(*line.split(), stdin=stdin)
        assert output.code == 0, f"kubectl {line}: {output.err}"
        return output.out.rstrip("\n")

    def refused(self, line: str, stdin: str = "") -> str:
        """Run a command line that must fail; return its standard error."""
        output = self.run(*line.split(), stdin=stdin)
        assert output.code != 0, f"kubectl {line}: {output.out}"
        return output.err.rstrip("\n")


def kubectl_on(server: ApiServer, home: Path) -> Kubectl:
    """Return a kubectl for an API server, in a new namespace."""
    namespace = f"test-{os.getpid()}-{next(_numbers)}"
    server.make_namespace(namespace)
    return Kubectl(dict(os.environ, HOME=str(home), KUBECONFIG=str(server.kubeconfig)), namespace)
