"""What every environment runner offers."""

import abc
from typing import Any

from tflearner.checkpoint.checkpointable import Checkpointable
from tflearner.checkpoint.kinds import CONFIG, CONNECTOR, ENV_RUNNER, of_kind
from tflearner.types import ResultDict


class BrokenOff(BaseException):
    """Raised to end sampling early, when its `StopWatch` has run out."""


class StopWatch:
    """Signals that sampling has to end early.

    Attributes:
        has_run_out: Whether sampling has to end; checked between vector steps.
        is_in_env: Whether an environment is running. If so, a signal handler may raise
            `BrokenOff` inside it.
    """

    def __init__(self) -> None:
        self.has_run_out = self.is_in_env = False

    def check(self) -> None:
        """Raises `BrokenOff` if sampling has to end."""
        if self.has_run_out:
            raise BrokenOff


@of_kind(
    ENV_RUNNER,
    takes={
        "config": (CONFIG,),
        "env_to_module": (CONNECTOR,),
        "module_to_env": (CONNECTOR,),
    },
)
class EnvRunner(Checkpointable):
    """Makes experience: acts with a module in environments that it owns.

        runner = SingleAgentEnvRunner(config=config, module=module)
        episodes = runner.sample(num_timesteps=1_000)
        results = runner.get_metrics()
        runner.stop()

    Args:
        config: The settings; each subclass documents which ones it reads.
    """

    def __init__(self, *, config: Any):
        self.config = config

    @abc.abstractmethod
    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[Any]:
        """Returns episodes, or parts of episodes, that it has just made."""

    @abc.abstractmethod
    def get_metrics(self) -> ResultDict:
        """Returns what was measured since the last call, and ends the interval."""

    @abc.abstractmethod
    def end_episodes(self, seed: int) -> None:
        """Ends all running episodes, as truncated.

        Args:
            seed: With it the next `sample()` resets every environment.
        """

    @abc.abstractmethod
    def stop(self) -> None:
        """Gives back what the runner holds; harmless when called again."""
