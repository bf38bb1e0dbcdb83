"""P1: a process that is killed while it saves loses nothing that was acknowledged."""

SIZES = {100_000: 0.93, 5_000_000: 0.06, 100_000_000: 0.01}  # Bytes: share of kills.


def test_kill_during_save(count, seed, line, run_program):
    kills = {num_bytes: round(count * share) for num_bytes, share in SIZES.items()}
    found = run_program("kill_during_save.py", kills=kills, seed=seed)
    failures = found["failures"]
    line(
        f"{found['kills']:,} kills ({found['amid']:,} in mid-save or mid-deletion), "
        f"{found['calls']:,} before and after each system call, "
        f"{found['saves']:,} acknowledged saves: {found.get('unusable', 0)} unusable, "
        f"{found.get('older', 0)} older, {found.get('debris', 0)} debris"
    )
    assert not failures, failures[:5]
    assert found["kills"] >= count and found["amid"] > 0.2 * count


def test_what_is_committed_is_on_the_disk(run_program):
    found = run_program("order_of_calls.py")
    assert not found["failures"] and found["calls"] > 30, found
