"""A learner that is continued from a checkpoint is the one that went on."""

from tflearner.testing import learner_digest


def test_a_checkpoint_continues_to_the_bit(row, tmp_path):
    learner = row.learner()
    row.train(learner)
    learner.save_to_path(tmp_path)
    continued = type(learner).from_checkpoint(tmp_path)
    digests = []
    for each in (learner, continued):
        row.train(each, seed=1)
        each.metrics.reset()  # Throughput is measured in seconds.
        digests.append(learner_digest(each))
    assert digests[0] == digests[1]
