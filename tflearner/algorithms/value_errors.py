"""Advice for a value function that the cap on value errors keeps from learning."""

from tflearner.types import ModuleID

NUM_UPDATES = 20
LARGE_SHARE = 0.5


class ValueErrors:
    """Counts updates in a row with most value errors beyond `vf_clip_param`."""

    def __init__(self) -> None:
        self._in_a_row: dict[ModuleID, int] = {}
        self._has_told = False

    def remark(
        self, module_id: ModuleID, share: float, mean: float, cap: float
    ) -> str | None:
        """Returns advice for the user after an update; at most once in a run.

        Args:
            module_id: The module that was updated.
            share: The share of its squared value errors that exceed the cap.
            mean: The mean of its squared value errors, without the cap.
            cap: `vf_clip_param`.
        """
        in_a_row = self._in_a_row.get(module_id, 0) + 1 if share > LARGE_SHARE else 0
        self._in_a_row[module_id] = in_a_row
        if self._has_told or in_a_row < NUM_UPDATES:
            return None
        self._has_told = True
        return (
            f"Module {module_id!r}: in {NUM_UPDATES} updates in a row, over half of the "
            f"squared value errors exceeded vf_clip_param={cap:g}, in the last one "
            f"{share:.0%} (mean {mean:.4g}). Such errors do not train the value function. "
            "Raise vf_clip_param (float('inf') sets no cap), or scale rewards down."
        )
