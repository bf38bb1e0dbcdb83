"""Numbers that the next update depends on, besides weights, optimizers and metrics."""

import dataclasses

import numpy as np

from tflearner.types import ModuleID, StateDict

NON_FINITE_IN_A_ROW = "num_non_finite_updates_in_a_row"


@dataclasses.dataclass
class Counters:
    """Numbers that the next update depends on; saved, restored and reset together.

    Attributes:
        rng: Draws the orders of rows, and the columns of `complete_columns`.
        timestep: Environment steps sampled so far, as the last update was told.
        weights_seq_no: The number of updates that changed weights.
        num_added_modules: How many modules were added so far.
        non_finite_in_a_row: Skipped gradient steps in a row, by module; those above 0.
    """

    rng: np.random.Generator
    timestep: int = 0
    weights_seq_no: int = 0
    num_added_modules: int = 0
    non_finite_in_a_row: dict[ModuleID, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def at_first(cls, seed: int | None) -> "Counters":
        """Returns the counters of a learner that has not been updated."""
        return cls(np.random.default_rng(seed))

    def get_state(self) -> StateDict:
        """Returns all but `weights_seq_no`, which a state has beside the weights."""
        return {
            "timestep": self.timestep,
            "rng": self.rng.bit_generator.state,
            "num_added_modules": self.num_added_modules,
            NON_FINITE_IN_A_ROW: dict(self.non_finite_in_a_row),
        }

    def set_state(self, state: StateDict) -> None:
        """Restores the counters from a state of `get_state`."""
        self.rng.bit_generator.state = state["rng"]
        self.timestep = state["timestep"]
        self.num_added_modules = state["num_added_modules"]
        counts = state.get(NON_FINITE_IN_A_ROW, {})
        self.non_finite_in_a_row = {mid: int(count) for mid, count in counts.items()}
