"""However many batches, the update is traced once per layout."""


def test_batches_of_any_number_of_rows_share_a_trace(row):
    learner = row.learner()
    before = learner.num_traces
    for step in range(12):
        batch = row.make_batches(learner, num_rows=9 + 5 * step, seed=step)
        learner.update_from_batch(batch, minibatch_size=8, num_epochs=2)
    assert learner.num_traces - before <= 1
    assert learner.num_traces >= 1


def test_a_layout_that_comes_again_is_not_traced_again(row):
    learner = row.learner()
    before = learner.num_traces
    batch = row.make_batches(learner, num_rows=32)
    counts = []
    for _ in range(3):
        for size in (8, None):
            learner.update_from_batch(batch, minibatch_size=size)
        counts.append(learner.num_traces)
    assert counts[0] == counts[1] == counts[2] <= before + 2
