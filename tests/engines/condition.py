"""What a user sees of an engine that failed: its last output as a kubelet keeps it, read from its Pod, as the message of Ready."""

from localkube.kubelet.termination_message import message
from tests.engines.program import Program
from tests.unit.launcher.engine_output import condition_of


def condition(program: Program) -> str:
    """Return the message of a Model whose engine has ended so. Its Pod has the policy that every engine's has."""
    policy = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    kept = message(policy, program.run, program.log, failed=True)
    return condition_of(program.backend.name, kept, program.code())
