"""P6: a run that is killed anywhere and continued ends as if nothing had happened."""

KINDS = ("dense", "recurrent", "two-modules", "ppo-fit", "ppo-train", "dqn", "sac")
STAGES = ("building", "restoring", "training", "saving")


def test_resume_is_bit_identical(count, seed, line, run_program):
    found = run_program("kill_and_resume.py", count=count, seed=seed)
    failures = found["failures"]
    chains = ", ".join(f"{found.get(f'{kind} chains', 0)} {kind}" for kind in KINDS)
    kills = ", ".join(f"{found.get(f'kills while {s}', 0)} {s}" for s in STAGES)
    line(
        f"{found['chains']:,} chains ({chains}) with 1 and 2 threads, "
        f"{found['kills']:,} kills ({kills}): {len(failures)} digests other than those "
        "of uninterrupted runs"
    )
    assert not failures, "\n\n".join(failures[:3])
    assert found["chains"] == count
    assert found["kills"] >= 0.5 * count
    if count >= 100:  # Kills come everywhere.
        assert min(found.get(f"kills while {s}", 0) for s in STAGES) > 0.03 * count
