"""Interfaces of modules for learning, which learners ask for."""

import abc
from typing import Any

from tflearner.types import ModuleID, Tensor


class ValueFunctionAPI(abc.ABC):
    """Interface of a module that predicts returns."""

    @abc.abstractmethod
    def compute_values(
        self, batch: dict[str, Any], embeddings: Tensor | None = None
    ) -> Tensor:
        """Returns value predictions.

        Args:
            batch: The columns of one module, at least `Columns.OBS`.
            embeddings: The output `Columns.EMBEDDINGS` of `forward_train`, if there is
                one; saves computing it again.

        Returns:
            float [B], or [B, T] for sequences.
        """


QF_PREDS = "qf_preds"  # The output that every module with `QNetAPI` has.


class QNetAPI(abc.ABC):
    """Interface of a module that predicts the return of each action."""

    @abc.abstractmethod
    def compute_q_values(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Returns the Q-values of all actions, and the terms they consist of.

        Args:
            batch: The columns of one module, at least `Columns.OBS`.

        Returns:
            At least "qf_preds", float [B, num_actions].
        """

    def compute_advantage_distribution(
        self, batch: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Returns the distribution of the advantage of each action.

        Args:
            batch: The columns of one module, at least `Columns.OBS`.

        Returns:
            At least "qf_preds", float [B, num_actions]; for a distribution over atoms
            "atoms", float [num_atoms], and "qf_logits", float [B, num_actions,
            num_atoms], as well.
        """
        return self.compute_q_values(batch)


class TargetNetworkAPI(abc.ABC):
    """Interface of a module with target networks: copies that are updated slowly.

    The learner calls `make_target_networks` once, when it builds or adds the module;
    `target_networks` has what makes and updates copies.
    """

    @abc.abstractmethod
    def make_target_networks(self) -> None:
        """Makes the copies, as attributes of the module."""

    @abc.abstractmethod
    def get_target_network_pairs(self) -> list[tuple[Any, Any]]:
        """Returns (network, its copy) for each copy."""

    @abc.abstractmethod
    def forward_target(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Computes the target networks' outputs for the loss."""


class SelfSupervisedLossAPI(abc.ABC):
    """Interface of a module with its own loss, such as a model of the environment.

    Any learner can train it: its loss replaces `compute_loss_for_module`.
    """

    @abc.abstractmethod
    def compute_self_supervised_loss(
        self,
        *,
        learner: Any,
        module_id: ModuleID,
        config: Any,
        batch: dict[str, Any],
        fwd_out: dict[str, Any],
    ) -> Tensor:
        """Returns the loss, a float scalar; traced like any other.

        Args:
            learner: The learner that trains the module; log to `learner.metrics`.
            module_id: The module's id.
            config: The module's config.
            batch: The module's columns.
            fwd_out: The outputs of `forward_train`.
        """


class InferenceOnlyAPI(abc.ABC):
    """Interface of a module with parts that are not needed for acting."""

    @abc.abstractmethod
    def get_non_inference_attributes(self) -> list[str]:
        """Returns the attributes that acting does not need, as "vf" or "encoder.critic".

        A module built with `inference_only=True` drops them after `setup()`, and
        `get_state(inference_only=True)` leaves their weights out.
        """
