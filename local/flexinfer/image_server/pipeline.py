"""Pipeline: the seam between the server and what draws. `diffusion` draws with diffusers; a test has its own."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from flexinfer.image_server.generation import Generation

Step: TypeAlias = Callable[[int, int], None]
"""Called after each denoising step with how many are done, of how many; what it raises ends the drawing and comes out of `draw`."""
Stage: TypeAlias = Callable[[str], None]
"""Called with the stage that loading has come to."""


class InvalidError(Exception):
    """The pipeline cannot draw what was asked for; the message says why. It can draw something else. `param` is the request's field, if it is one."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class MemoryFullError(Exception):
    """The device has no room for this image; the pipeline can draw a smaller one."""


class BrokenError(Exception):
    """The pipeline cannot draw anything any more: its process must be started again."""


class Pipeline(Protocol):
    """Draws images, one at a time. It runs in a thread of its own."""

    def draw(self, generation: Generation, step: Step) -> bytes:
        """Return an image in the format that was asked for. Raises InvalidError, MemoryFullError, BrokenError, and what `step` raises."""
        ...


Load: TypeAlias = Callable[[Stage], Pipeline]
"""Loads a pipeline; it runs in a thread of its own. Raises what it likes: the last line of it is what the user sees."""
