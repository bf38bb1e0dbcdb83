"""Schedules: values that change with the number of environment steps."""

import bisect
import math
from typing import Any

from tflearner.checks import is_float32, is_real
from tflearner.constants import FLOAT32_MAX
from tflearner.errors import ScheduleError, shown
from tflearner.types import LearningRateOrSchedule


class Scheduler:
    """A schedule: a fixed value, or a piecewise linear function of the timestep.

        t <= t_0 = 0           ->  v_0
        t_i <= t < t_{i+1}     ->  v_i + (v_{i+1} - v_i) * (t - t_i) / (t_{i+1} - t_i)
        t >= t_n               ->  v_n

    Two points with one timestep make a jump; from there on the later one counts.

        >>> lr = Scheduler(fixed_value_or_schedule=[[0, 0.1], [100, 0.3]])
        >>> lr.get_current_value()
        0.1
        >>> lr.update(timestep=50)
        0.2

    Args:
        fixed_value_or_schedule: A number, `None`, or `[[timestep, value], ...]` with
            ascending timesteps that start at 0.
        framework: Ignored; RLlib's signature has it.
        device: Ignored; RLlib's signature has it.
        variable: An object with `assign(value)`, such as a scalar `tf.Variable`. It is
            updated with the value, and `get_current_value` returns it, so that traced
            code reads the current value.

    Attributes:
        is_fixed: Whether the value never changes.
    """

    def __init__(
        self,
        *,
        fixed_value_or_schedule: LearningRateOrSchedule | None,
        framework: str | None = None,
        device: Any = None,
        variable: Any = None,
    ):
        self.validate(
            fixed_value_or_schedule=fixed_value_or_schedule,
            setting_name="fixed_value_or_schedule",
            description="value or schedule",
        )
        self._timesteps: list[float] = []
        self._values: list[float] = []
        self._value: float | None = None
        if isinstance(fixed_value_or_schedule, (list, tuple)):
            self._timesteps = [float(point[0]) for point in fixed_value_or_schedule]
            self._values = [float(point[1]) for point in fixed_value_or_schedule]
        else:
            self._value = fixed_value_or_schedule
        self.is_fixed = not self._timesteps
        self._variable = None if fixed_value_or_schedule is None else variable
        self.update(timestep=0)

    @staticmethod
    def validate(
        *, fixed_value_or_schedule: Any, setting_name: str, description: str
    ) -> None:
        """Raises `ScheduleError` unless a setting is a number, `None` or a schedule.

        Args:
            fixed_value_or_schedule: The value of the setting.
            setting_name: The name of the setting in errors, such as `"lr"`.
            description: A description of it, such as `"learning rate or schedule"`.
        """
        schedule = fixed_value_or_schedule
        if schedule is None or (is_real(schedule) and abs(schedule) <= math.inf):
            return
        want = f"a number or [[timestep, value], ...] as {description}"
        if not isinstance(schedule, (list, tuple)):
            raise ScheduleError(setting_name, _describe(schedule), want)
        if len(schedule) < 2:
            raise ScheduleError(
                setting_name,
                f"a schedule of {len(schedule)} points",
                "at least 2",
                "give a plain number for a value that never changes",
            )

        last = 0.0
        for i, point in enumerate(schedule):
            if not isinstance(point, (list, tuple)) or len(point) != 2:
                raise ScheduleError(
                    setting_name,
                    f"point {i}: {shown(point)}",
                    "a pair [timestep, value]",
                )
            if not all(map(is_float32, point)):
                raise ScheduleError(
                    setting_name,
                    f"point {i}: {shown(point)}",
                    f"two finite numbers up to {FLOAT32_MAX:.2g}",
                )
            if i == 0 and point[0] != 0:
                raise ScheduleError(
                    setting_name, f"point 0: step {point[0]}", "the first step to be 0"
                )
            if point[0] < last:
                raise ScheduleError(
                    setting_name,
                    f"point {i}: step {point[0]} after {last}",
                    "ascending steps",
                )
            last = point[0]

    def get_current_value(self) -> Any:
        """Returns the variable if there is one, otherwise the value as a number."""
        return self._value if self._variable is None else self._variable

    def update(self, timestep: int) -> float | None:
        """Moves the schedule to a timestep and returns the value there as a number."""
        if self._timesteps:
            self._value = self._value_at(timestep)
        if self._variable is not None:
            self._variable.assign(self._value)
        return self._value

    def _value_at(self, timestep: float) -> float:
        right = bisect.bisect_right(self._timesteps, timestep)
        if right == 0:
            return self._values[0]
        if right == len(self._timesteps):
            return self._values[-1]
        t_0, t_1 = self._timesteps[right - 1 : right + 1]
        v_0, v_1 = self._values[right - 1 : right + 1]
        return v_0 + (v_1 - v_0) * (timestep - t_0) / (t_1 - t_0)


def _describe(value: Any) -> str:
    text = shown(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
