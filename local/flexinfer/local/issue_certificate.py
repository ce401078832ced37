"""`python -m flexinfer.local.issue_certificate FOLDER NAME`: issue a server certificate for loopback, and the authority if there is none.

A process of its own, so that no server has to keep the cryptography library in memory for the one start at which it needs it.
"""

import sys
from pathlib import Path

from flexinfer.runtime import certificates

if __name__ == "__main__":
    certificates.issue(Path(sys.argv[1]), sys.argv[2])
