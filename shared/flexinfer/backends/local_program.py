"""LocalProgram: what runs an engine on a machine without containers. Pure."""

import msgspec


class LocalProgram(msgspec.Struct, frozen=True, kw_only=True):
    """The program that runs an engine on a machine without containers, in place of its image.

    `images` are patterns (fnmatch) of the images that it stands for. `paths` are the names of the program inside the image: a container
    command that begins with one of them is replaced by the program. `subcommand` comes first unless the container's command names the
    program itself; `default_args` are used when the container has neither command nor args.
    """

    program: str
    images: tuple[str, ...]
    paths: tuple[str, ...] = ()
    subcommand: tuple[str, ...] = ()
    default_args: tuple[str, ...] = ()
    fallback: str = ""
    """A console script of FlexInfer that takes the same command line, used where `program` is not on PATH; empty: none."""
    install: str = ""
    """How to install the program, as an imperative."""
