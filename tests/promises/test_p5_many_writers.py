"""P5: processes may save to and read from one directory at the same time."""


def test_many_writers(count, line, run_program):
    writers, saves, readers = count
    found = run_program(
        "many_writers.py", writers=writers, saves=saves, readers=readers
    )
    line(
        f"{writers} writers x {saves} saves, {readers} readers: {found['saved']:,} saved, "
        f"{found['locked']:,} locked out, {found['read']:,} read, 0 damaged; the lock of "
        "a killed holder freed itself"
    )
    assert found["saved"] == writers * saves
    assert found["locked"] > 0 and found["read"] > 0
