"""Text for people: a stream that fails costs a warning, and never a run."""

import contextlib
import io
import warnings
from typing import IO

from rich.console import Console, RenderableType


def warn(text: str, stacklevel: int = 2) -> None:
    """Gives a `RuntimeWarning`; nothing if standard error is closed.

    Args:
        text: What has happened.
        stacklevel: Whose line it names, as in `warnings.warn`.
    """
    with contextlib.suppress(ValueError):  # Of a write to a closed file.
        warnings.warn(text, RuntimeWarning, stacklevel + 1)


def render(
    content: RenderableType, file: IO[str] | None, width: int | None = None
) -> str:
    """Returns content as text, in the colours of a stream, and writes nothing.

    Args:
        content: What rich can print.
        file: The stream; without a terminal behind it there are no colours.
        width: Columns; those of the stream by default.
    """
    stream = Console(file=file)
    text = io.StringIO()
    Console(
        file=text,
        width=width or stream.width,
        force_terminal=stream.is_terminal,
        color_system=stream.color_system,  # type: ignore[arg-type]
    ).print(content, end="")
    return text.getvalue()


class Output:
    """A text stream that may fail: its reader may leave, its disk may be full.

    The first write that fails is a `RuntimeWarning`. Later ones are tried all the same,
    so that the text goes on as soon as the stream takes it.

    Args:
        file: The stream; `None` where a program has no standard output.

    Attributes:
        file: As given.
    """

    def __init__(self, file: IO[str] | None):
        self.file = file
        self._has_failed = False

    def write(self, text: str) -> None:
        """Writes text at once; characters that the stream does not know become "?"."""
        try:
            if self.file is None:
                raise OSError("there is no standard output")
            encoding = getattr(self.file, "encoding", None) or "utf-8"
            self.file.write(text.encode(encoding, "replace").decode(encoding))
            self.file.flush()
        except Exception as error:  # noqa: BLE001 - programs put any object there
            if not self._has_failed:
                self._has_failed = True
                warn(f"text could not be shown: {error}; the program continues")
