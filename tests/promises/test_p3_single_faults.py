"""P3: damage is found before anything is read from a damaged checkpoint."""


def test_single_faults(count, seed, line, run_program):
    found = run_program("faults.py", count=count, seed=seed)
    failures, kinds, files = found["failures"], found["kinds"], found["files"]
    line(
        f"{found['faults']:,} faults of {len(kinds)} kinds in {len(files)} kinds of "
        f"files: {len(failures)} not refused by name; {found['back']:,} times the step "
        "before was loaded instead"
    )
    assert not failures, failures[:5]
    assert found["faults"] == count and len(files) == 5
    for kind in kinds:
        # A step is not swapped with one that is the same.
        same = 0 if kind != "swap_between_steps" else 2
        done = [name for name in files if f"{kind} {name}" in found]
        assert len(done) >= len(files) - same, (kind, done)
