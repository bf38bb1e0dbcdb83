"""The `LearnerGroup`: RLlib's interface to the learners of a run."""
