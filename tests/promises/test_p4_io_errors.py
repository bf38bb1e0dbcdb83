"""P4: an error of the disk costs the save it happens in, and nothing else."""

import pytest


@pytest.mark.deep
def test_io_errors(line, run_program):
    found = run_program("io_errors.py")
    failures = found["failures"]
    line(
        f"{found['faults']:,} errors, each of 5 kinds at each of "
        f"{found['calls of fail_save']} calls of a save and "
        f"{found['calls of fail_read']} of a read, once or lasting: {len(failures)} "
        f"met badly; {found.get('full disks', 'no')} full disks"
    )
    assert not failures, failures[:10]
    assert found["faults"] >= 300
