"""Plain kubectl, in a namespace of a test's own."""

import itertools
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.apiserver import ApiServer
from tests.instance import BIN

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Answer:
    """What a program printed."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Kubectl:
    """The program, with a kubeconfig and a home of its own."""

    environment: dict[str, str]
    namespace: str

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it and leave it running."""
        program = str(BIN / "kubectl")
        return subprocess.Popen(
            [program, f"--namespace={self.namespace}", *arguments],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, given: str = "") -> Answer:
        """Run it to its end, with `given` as its input."""
        process = self.start(*arguments)
        out, err = process.communicate(given, timeout=20)
        return Answer(process.returncode, out, err)

    def __call__(self, line: str, given: str = "") -> str:
        """Run a line that must succeed, and return what it prints."""
        answer = self.run(*line.split(), given=given)
        assert answer.code == 0, f"kubectl {line}: {answer.err}"
        return answer.out.rstrip("\n")

    def refused(self, line: str, given: str = "") -> str:
        """Run a line that must fail, and return its complaint."""
        answer = self.run(*line.split(), given=given)
        assert answer.code != 0, f"kubectl {line}: {answer.out}"
        return answer.err.rstrip("\n")


def kubectl_on(server: ApiServer, home: Path) -> Kubectl:
    """Return a kubectl for a server, in a new namespace."""
    namespace = f"test-{os.getpid()}-{next(_numbers)}"
    server.make_namespace(namespace)
    return Kubectl(dict(os.environ, HOME=str(home), KUBECONFIG=str(server.kubeconfig)), namespace)
