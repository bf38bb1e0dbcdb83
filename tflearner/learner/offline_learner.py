"""Learns from steps that somebody else took: the base of imitation."""

from tflearner.columns import Columns
from tflearner.learner.tf_learner import TfLearner
from tflearner.types import ColumnDict, ModuleID, Tensor


class OfflineTfLearner(TfLearner):
    """The base of learners that imitate actions in data.

    Subclasses override `compute_loss_for_module`; `logp` is the log-probability of the
    actions in the data. Small batches of an iterator are trained on several at a time,
    in one traced call.
    """

    items_per_call = 32

    def logp(
        self, module_id: ModuleID, batch: ColumnDict, fwd_out: ColumnDict
    ) -> Tensor:
        """Returns the log-probability of the actions in the data. float [B]."""
        module = self.module[module_id].unwrapped()
        dist_class = module.get_train_action_dist_cls()
        dist = dist_class.from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
        return dist.logp(batch[Columns.ACTIONS])

    def get_required_columns(self, module_id):
        return (Columns.OBS, Columns.ACTIONS)

    def get_required_outputs(self, module_id):
        return (Columns.ACTION_DIST_INPUTS,)
