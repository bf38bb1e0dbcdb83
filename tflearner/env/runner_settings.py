"""The settings that an environment runner reads, as data without TensorFlow."""

import dataclasses
from typing import Any, Self


@dataclasses.dataclass(frozen=True)
class RunnerSettings:
    """The settings that a `SingleAgentEnvRunner` reads from an `AlgorithmConfig`.

    Use it in place of the config in a process without TensorFlow:

        settings = RunnerSettings.of(config)
        runner = SingleAgentEnvRunner(config=settings, module=module.numpy_policy())

    Attributes have the names, meanings and defaults of `AlgorithmConfig`.
    """

    env: Any = None
    env_config: dict = dataclasses.field(default_factory=dict)
    action_masks: str | bool = "auto"
    num_envs_per_env_runner: int = 1
    gym_env_vectorize_mode: str = "sync"
    autoreset_mode: str = "same_step"
    env_step_timeout_s: float | None = None
    rollout_fragment_length: int = 200
    explore: bool = True
    episode_lookback_horizon: int = 1
    metrics_num_episodes_for_smoothing: int = 100
    seed: int | None = None

    @classmethod
    def of(cls, config: Any) -> Self:
        """Returns the settings of an `AlgorithmConfig` that a runner reads."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: getattr(config, name) for name in names})
