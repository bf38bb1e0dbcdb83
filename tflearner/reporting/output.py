"""Text output to a stream that may fail without ending a run."""

import contextlib
import io
import warnings
from typing import IO

from rich.console import Console, RenderableType


def warn(text: str, stacklevel: int = 2) -> None:
    """Issues a `RuntimeWarning`, unless standard error is closed.

    Args:
        text: The text of the warning.
        stacklevel: As in `warnings.warn`.
    """
    with contextlib.suppress(ValueError):  # A write to a closed file.
        warnings.warn(text, RuntimeWarning, stacklevel + 1)


def render(
    content: RenderableType, file: IO[str] | None, width: int | None = None
) -> str:
    """Renders content as text with the colours of a stream, without writing it.

    Args:
        content: An object that rich can print.
        file: The stream; there are no colours if it is not a terminal.
        width: The number of columns; by default the stream's.
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
    """A text stream that may fail, for example because its disk is full.

    The first write that fails issues a `RuntimeWarning`. Later writes are still tried,
    so output resumes when the stream works again.

    Args:
        file: The stream; `None` if the program has no standard output.

    Attributes:
        file: The stream.
    """

    def __init__(self, file: IO[str] | None):
        self.file = file
        self._has_failed = False

    def write(self, text: str) -> None:
        """Writes text at once; characters that the stream cannot encode become "?"."""
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
