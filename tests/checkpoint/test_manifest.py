"""Tests for `tflearner.checkpoint.manifest`."""

import hashlib
import json
import sys

import pytest

from tflearner.checkpoint import manifest
from tflearner.errors import CheckpointVersionError

FACTS = {
    "step": 3,
    "seq": 2,
    "finite": True,
    "parent": None,
    "files": {"state.json": {"bytes": 1, "sha256": "0" * 64}},
    "modules": {"p0": {"n": 0, "spec_sha256": "0" * 64, "tensors": 2}},
}


def signed(**changes) -> bytes:
    """A manifest with other facts and the right hash."""
    content = json.loads(manifest.build(**FACTS).splitlines()[0]) | changes
    line = json.dumps({k: v for k, v in content.items() if v != "gone"}).encode()
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"


def test_it_says_what_it_was_told_and_who_wrote_it():
    content = manifest.parse(manifest.build(**FACTS))
    assert content.items() >= FACTS.items()
    assert content["format"] == "tflearner-checkpoint"
    assert content["version"] == content["min_reader"] == 1
    by = content["written_by"]
    assert [*by] == ["tflearner", "tensorflow", "keras", "numpy", "python"]
    assert by["python"] == sys.version.split()[0]


def test_every_flipped_bit_is_found():
    data = manifest.build(**FACTS)
    for number in range(8 * len(data)):
        bad = bytearray(data)
        bad[number // 8] ^= 1 << number % 8
        with pytest.raises(ValueError, match="manifest invalid"):
            manifest.parse(bytes(bad))


@pytest.mark.parametrize(
    "change", [lambda d: d[:-1], lambda d: d + b"\n", lambda d: b""]
)
def test_other_lengths_are_refused(change):
    with pytest.raises(ValueError, match="sha256 differs"):
        manifest.parse(change(manifest.build(**FACTS)))


def test_newer_formats_are_refused_with_both_numbers():
    with pytest.raises(CheckpointVersionError, match=r"99.*1\.\.1.*upgrade") as caught:
        manifest.parse(signed(version=99))
    assert (caught.value.found, caught.value.supported) == (99, (1, 1))


@pytest.mark.parametrize(
    "changes",
    [
        *({"version": v} for v in (0, -1, True, "1", None, 1.0, "gone")),
        *({"format": v} for v in ("other", None, "gone")),
        *({"step": v} for v in (-1, 1.5, "3", None, True, "gone")),
        *({"finite": v} for v in (1, None, "true", "gone")),
        *({"parent": v} for v in (-1, "a", "gone")),
        *({"files": v} for v in ([], {}, None, "gone", {"state.json": 1})),
        *({"modules": v} for v in ([], None, {"p": 1}, {"p": {"n": -1}}, "gone")),
        {"modules": {"p": {"n": 0}, "q": {"n": 0}}},
        *(
            {"files": FACTS["files"] | {name: FACTS["files"]["state.json"]}}
            for name in ("../x", "/etc/passwd", "a", "m0.weights", "", "state.json\n")
        ),
        {"files": {"state.json": {"bytes": -1, "sha256": "0" * 64}}},
        {"files": {"state.json": {"bytes": 1, "sha256": "0" * 63}}},
        {"files": {"state.json": {"bytes": 1, "sha256": None}}},
        {"files": {"state.json": {"bytes": 1}}},
    ],
    ids=str,
)
def test_contents_that_are_refused(changes):
    with pytest.raises(ValueError, match="manifest invalid"):
        manifest.parse(signed(**changes))


def test_the_manifest_itself_may_not_be_another_kind_of_json():
    for line in (b"[]", b"1", b"null", b'"a"'):
        data = line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"
        with pytest.raises(ValueError, match="manifest invalid"):
            manifest.parse(data)
