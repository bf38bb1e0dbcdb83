"""Imports TensorFlow without its start-up lines.

No setting removes all of them (some are printed before any is read), so the standard
error stream is closed for the length of the import. Examples import this first; the
library itself never touches a stream.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.stderr.flush()
_stderr, _nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
os.dup2(_nowhere, 2)
try:
    import tensorflow  # noqa: F401
    import tensorflow_probability  # noqa: F401
finally:
    os.dup2(_stderr, 2)
    os.close(_stderr)
    os.close(_nowhere)
