"""A learner that is continued from a checkpoint is the one that went on."""

from tflearner.testing import learner_digest

SETTINGS = {"minibatch_size": 8, "shuffle_batch_per_epoch": True}


def test_a_checkpoint_continues_to_the_bit(row, tmp_path):
    learner = row.make_learner()
    learner.update_from_batch(row.make_batches(learner), **SETTINGS)
    learner.save_to_path(tmp_path)
    continued = type(learner).from_checkpoint(tmp_path)
    digests = []
    for each in (learner, continued):
        each.update_from_batch(row.make_batches(each, seed=1), **SETTINGS)
        each.metrics.reset()  # Throughput is measured in seconds.
        digests.append(learner_digest(each))
    assert digests[0] == digests[1]
