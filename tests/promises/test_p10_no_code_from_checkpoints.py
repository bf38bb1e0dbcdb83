"""P10: a checkpoint runs no code, reads nothing elsewhere and exhausts nothing."""

import pytest

MIN_CASES = 500
DESCRIPTIONS = 1_500


def test_hostile_checkpoints(seed, line, run_program):
    found = run_program("load_hostile.py", seed=seed)
    failures = found["failures"]
    line(
        f"{found['cases']:,} hostile checkpoints under an audit hook, "
        f"{found['events']:,} events: {len(failures)} ran code, looked elsewhere, "
        "changed a file, raised another error or took more than 1 s or 64 MB"
    )
    assert not failures, failures[:10]
    assert found["cases"] >= MIN_CASES and found.get("not made", 0) < 20
    assert found["events"] > found["cases"]  # The hook listens.


@pytest.mark.deep
def test_hostile_descriptions(seed, line, run_program):
    found = run_program("rebuild_hostile.py", seed=seed, count=DESCRIPTIONS)
    failures = found["failures"]
    line(
        f"{found['cases']:,} hostile descriptions rebuilt under an audit hook, "
        f"{found['events']:,} events: {len(failures)} built what no file may build, "
        "imported a module, wrote a file, raised another error or took more than 1 s"
    )
    assert not failures, failures[:10]
    assert found["cases"] > DESCRIPTIONS and found["events"] > found["cases"]
