"""P27: whatever is deleted, the newest checkpoint that is intact and finite stays."""


def test_retention(count, seed, line, run_program):
    found = run_program("sequences.py", count=count, seed=seed)
    failures = found["failures"]
    line(
        f"{found['sequences']:,} sequences of {found['save']:,} saves, "
        f"{found['save_sick']:,} of numbers not finite, {found['save_refused']:,} "
        f"refusals, {found['crash']:,} crashes, {found['tear']:,} damaged steps: "
        f"{len(failures)} lost the newest healthy one"
    )
    assert not failures, failures[:5]
    assert found["sequences"] == count
