"""How it is put together: environment runner, learner, and the loop around them."""

import abc
import dataclasses
import os
import time
import warnings
from collections.abc import Iterable
from typing import Any, ClassVar

import keras
import numpy as np
from gymnasium.vector import VectorEnv

from tflearner import constants, forks
from tflearner.algorithms.algorithm_state import AlgorithmState
from tflearner.algorithms.interruption import Interruption
from tflearner.checks import is_int
from tflearner.config import AlgorithmConfig
from tflearner.constants import DEFAULT_MODULE_ID, INPUT_ENV_SINGLE_SPACES
from tflearner.env import worker_env
from tflearner.env.env_runner import BrokenOff, StopWatch, acting_id
from tflearner.errors import ConfigError, EnvError, SpaceError, UsageError, shown
from tflearner.export.report import ExportReport
from tflearner.modules import acting
from tflearner.reporting import names, summary
from tflearner.reporting.callbacks import CallbackModel, CallbackRunner
from tflearner.reporting.history import History
from tflearner.reporting.progress import Progress, check_verbose
from tflearner.reporting.run_directory import JsonLinesWriter
from tflearner.types import ResultDict


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """The result of an evaluation: returns and lengths of greedy episodes.

    Attributes:
        episode_return_mean: Mean of the undiscounted returns.
        episode_return_std: Standard deviation of the returns.
        episode_return_min: The smallest return.
        episode_return_max: The largest return.
        episode_len_mean: Mean number of steps.
        num_episodes: Number of episodes.
        num_env_steps: Number of steps in all episodes.
    """

    episode_return_mean: float
    episode_return_std: float
    episode_return_min: float
    episode_return_max: float
    episode_len_mean: float
    num_episodes: int
    num_env_steps: int


class Algorithm(AlgorithmState):
    """Base class of algorithms: an environment runner, a learner and a training loop.

    Subclasses override `training_step`. There are two ways to make an algorithm:

        algo = PPO("CartPole-v1", lr=3e-4)
        algo = PPOConfig().environment("CartPole-v1").training(lr=3e-4).build_algo()

    Args:
        env: Registered id, environment class, or function that returns an environment.
        config: The settings, which are copied.
        **settings: Fields of the algorithm's config by name, such as `lr` or `seed`.

    Attributes:
        config: The settings, frozen.
        learner: The learner.
        env_runner: The `EnvRunner` that samples episodes.
    """

    config_class: ClassVar[type[AlgorithmConfig]] = AlgorithmConfig
    needs_env: ClassVar[bool] = True

    def __init__(
        self, env: Any = None, *, config: AlgorithmConfig | None = None, **settings: Any
    ):
        forks.check(type(self).__name__)
        worker_env.refuse_in_import_of_script(type(self).__name__)
        if config is not None and not isinstance(config, self.config_class):
            raise ConfigError(
                f"{type(self).__name__}(config=...)",
                shown(config),
                f"a {self.config_class.__name__}",
            )
        config = self.config_class() if config is None else config.copy(False)
        if env is not None:
            config.environment(env)
        config.update_from_dict(settings)
        config.validate()
        if config.env is None and self.needs_env:
            raise ConfigError(
                f"{type(self).__name__}",
                "no environment",
                hint='name one: PPO("CartPole-v1") or config.environment("CartPole-v1")',
            )
        config.freeze()
        super().__init__(config)
        self._stop_watch = StopWatch()
        self.env_runner = config.build_env_runner(stop_watch=self._stop_watch)
        try:
            for text in self.env_runner.warnings():
                warnings.warn(text, UserWarning, stacklevel=2)
            self._build()
        except BaseException:
            self.env_runner.abandon()
            raise

    def _build(self) -> None:
        config, runner = self.config, self.env_runner
        self._env_name = runner.env_name
        of_env = runner.get_spaces().get(INPUT_ENV_SINGLE_SPACES, (None, None))
        for name, space in zip(("observation_space", "action_space"), of_env):
            if getattr(config, name) not in (None, space):
                raise SpaceError(
                    f"{type(config).__name__}.{name}",
                    str(getattr(config, name)),
                    f"the environment's, {space}",
                    "leave it out: it is read off the environment, with masks of actions "
                    "in it unless action_masks=False",
                )
        runner.make_connectors()
        spaces = runner.get_spaces()
        of_others: Any = spaces.get(DEFAULT_MODULE_ID)
        self.learner = config.build_learner(
            spaces={
                module_id: spaces.get(module_id, of_others)
                for module_id in config.get_multi_rl_module_spec().by_id()
            }
        )
        runner.set_modules(self.learner.module)

    def get_module(self, module_id: str | None = None):
        """Returns a module; by default the one that acts in the environment."""
        if module_id is None:
            module_id = self.get_module_id()
        return self.learner.module[module_id].unwrapped()

    def get_module_id(self) -> str:
        """Returns the id of the module that acts in the environment."""
        return acting_id(self.learner.module)

    # Training.

    @abc.abstractmethod
    def training_step(self) -> tuple[ResultDict, dict[str, float]]:
        """Samples and learns once.

        Returns:
            The results of the learner, and timers: seconds by name, such as "learn_s".
        """

    def train(self) -> ResultDict:
        """Samples and learns once; returns nested results.

        Returns:
            {"env_runners": {...}, "learners": {module id: {...}}, "timers": {...},
            "training_iteration", "num_env_steps_sampled_lifetime", "time_total_s"}.
            Timers are seconds of this iteration.
        """
        if forks.has_lost_threads:
            forks.check("train()")
        started = time.perf_counter()
        with self.learner._turns.take():
            learner_results, timers = self.training_step()
            env_results = self.env_runner.get_metrics()
        self._iteration += 1
        self._seconds += time.perf_counter() - started
        return {
            constants.TIMERS: {**env_results.pop(constants.TIMERS), **timers},
            constants.ENV_RUNNER_RESULTS: env_results,
            constants.LEARNER_RESULTS: learner_results,
            constants.TRAINING_ITERATION: self._iteration,
            constants.NUM_ENV_STEPS_SAMPLED_LIFETIME: (
                self.num_env_steps_sampled_lifetime
            ),
            constants.TIME_TOTAL_S: self._seconds,
        }

    def _remarks(self, learner_results: ResultDict) -> Iterable[str]:
        """Returns advice for the user after an update, in one or two sentences each."""
        return ()

    @property
    def num_env_steps_sampled_lifetime(self) -> int:
        """Environment steps sampled so far."""
        key = constants.NUM_ENV_STEPS_SAMPLED_LIFETIME
        return self.env_runner.metrics.peek(key)

    def fit(
        self,
        total_steps: int,
        *,
        callbacks: Iterable[keras.callbacks.Callback] | None = None,
        verbose: str | int = "auto",
        log_dir: str | os.PathLike | None = None,
    ) -> History:
        """Trains for a number of environment steps.

        Every iteration is one epoch for callbacks, whose logs hold flat names such as
        "episode_return", "loss" and, when evaluated, "val_episode_return". Epochs are
        numbered from 0 in a new run and continue in the next `fit`. A run that is
        restored after `training_iteration` 7 continues with epoch 7. Results also go to
        `<log_dir>/<algo>-<env>-<n>/metrics.jsonl`, a new directory for each call.

        If a disk is full or an output is closed, the first failed write gives a
        `RuntimeWarning`, and training continues.

        Ctrl-C ends training after the iteration, and leaves a checkpoint in
        "checkpoints" of that directory; pressed again it stops at once. SIGTERM also
        ends training with a checkpoint, and then ends the process. If sampling or
        evaluation takes more than 4 seconds longer, it is interrupted. Its steps are
        dropped, and the checkpoint does not contain them.

        Args:
            total_steps: Environment steps to take, at least.
            callbacks: Keras callbacks. Name the direction where Keras cannot guess it:
                `EarlyStopping(monitor="episode_return", mode="max")`.
            verbose: 0 is silent, 1 a live view, 2 one line per interval; "auto" is the
                view on a terminal and lines elsewhere.
            log_dir: Where run directories are made; "runs" by default.

        Returns:
            The `History` of all iterations that `fit` has run on this object, earlier
            calls included. It starts again when a run is restored.

        Raises:
            UsageError: If `total_steps` is no int above 0, or no directory can be made
                in `log_dir`.
            ConfigError: If `verbose` is something else.
        """
        forks.check("fit()")
        _check_count("fit()", "total_steps", total_steps)
        runner = CallbackRunner(
            callbacks or (), self._callback_model(), {"steps": 1, "verbose": 0}
        )
        check_verbose(verbose)
        directory = self._make_run_directory("fit()", UsageError, log_dir)
        self._run_directory = directory
        first = self.num_env_steps_sampled_lifetime
        title = f"{self._headline()}\nrun: {directory}/"
        labels = self.learner.metric_labels
        with (
            JsonLinesWriter(directory / "metrics.jsonl") as writer,
            Progress(title, total_steps, verbose, labels=labels) as progress,
            Interruption(self._stop_watch) as interruption,
        ):
            started, logs, message, steps = time.perf_counter(), {}, None, 0
            try:
                runner.begin()
                while not (runner.stop_training or interruption.requested):
                    epoch = self._iteration
                    runner.epoch_begin(epoch)
                    result = self._train_and_evaluate(interruption)
                    writer.write(result)
                    logs = runner.epoch_end(epoch, names.flatten_result(result))
                    self._history.append(epoch, logs)
                    steps = self.num_env_steps_sampled_lifetime - first
                    seconds = time.perf_counter() - started
                    progress.update(logs, result[constants.TIMERS], steps, seconds)
                    if verbose != 0:
                        for remark in self._remarks(result[constants.LEARNER_RESULTS]):
                            progress.say(remark)
                    if steps >= total_steps:
                        break
            except KeyboardInterrupt:
                runner.break_off()
                steps = self.num_env_steps_sampled_lifetime - first
                message = f"interrupted after {steps:,} steps"
            except (BrokenOff, EnvError):  # An `EnvError`: the signal ended a worker.
                if not interruption.requested:
                    raise
                steps = self.num_env_steps_sampled_lifetime - first
                self._last_save = (0, "")  # Random numbers have been drawn since.
            interruption.finish()
            runner.end(logs)
            self._warn_unless_saved()
            if interruption.requested and message is None:
                saved = self._saved_after_this_iteration()
                where = f", saved in {saved}/" if saved else ""
                message = f"interrupted after {steps:,} steps{where}"
            progress.close(message)
        interruption.pass_on()
        return self._history.copy({"total_steps": total_steps})

    def _train_and_evaluate(self, interruption: Interruption) -> ResultDict:
        result = self.train()
        interval = self.config.evaluation_interval
        if interval is None or self._iteration % interval:
            return result
        try:
            evaluated = self.evaluate(self.config.evaluation_duration)
        except (BrokenOff, EnvError):
            if not interruption.requested:
                raise
        else:
            result[constants.EVALUATION_RESULTS] = dataclasses.asdict(evaluated)
        return result

    # Evaluation.

    def evaluate(self, episodes: int = 10) -> EvaluationResult:
        """Acts greedily on a fresh environment.

        Args:
            episodes: Number of whole episodes.

        Returns:
            Their returns, summed up.

        Raises:
            UsageError: If `episodes` is no int above 0.
        """
        forks.check("evaluate()")
        _check_count("evaluate()", "episodes", episodes)
        if isinstance(self.config.env, VectorEnv):
            raise UsageError(
                "evaluate()",
                "a vector environment that is in use",
                "an environment that can be made again",
                "configure a function that returns it",
            )
        self._num_evaluations += 1
        seed = self.config.seed
        if seed is not None:
            entropy = np.random.SeedSequence([seed, self._num_evaluations])
            seed = int(entropy.generate_state(1)[0])
        config = self.config.copy(copy_frozen=False)
        config.env_runners(
            explore=False,
            num_envs_per_env_runner=min(episodes, config.num_envs_per_env_runner),
        ).debugging(seed=seed)
        runner = config.build_env_runner(
            env_to_module=self.env_runner.env_to_module,
            module_to_env=self.env_runner.module_to_env,
            stop_watch=self._stop_watch,
        )
        try:
            runner.set_modules(self.learner.module)
            sampled = runner.sample(num_episodes=episodes)
        finally:
            runner.stop()
        returns = np.array([episode.get_return() for episode in sampled])
        lengths = np.array([len(episode) for episode in sampled])
        return EvaluationResult(
            episode_return_mean=float(returns.mean()),
            episode_return_std=float(returns.std()),
            episode_return_min=float(returns.min()),
            episode_return_max=float(returns.max()),
            episode_len_mean=float(lengths.mean()),
            num_episodes=len(sampled),
            num_env_steps=int(lengths.sum()),
        )

    def export(
        self,
        path: str | os.PathLike,
        *,
        module_id: str | None = None,
        format: str | None = None,
        include_update: bool = False,
        example_batch: Any = None,
    ) -> ExportReport:
        """Writes the policy, with its connectors inside, as a program of its own.

        It takes the environment's observations and returns its actions; see
        `TfLearner.export` for what can be asked of it.

        Args:
            path: Where to: a directory, or a file that ends in `.tflite` or `.keras`.
                An older export there is replaced in one step.
            module_id: Which module; by default the one that acts in the environment.
            format: "tf_saved_model" for servers, "tflite" for small devices, "keras" to
                use the network in Keras; the latter two hold the greedy policy.
                By default the path's suffix decides.
            include_update: Whether a SavedModel can continue to learn, by its endpoint
                "update".
            example_batch: A batch with the columns that "update" takes; by default
                those of the last update.

        Returns:
            What was written, and how far from the module it is on sampled observations.

        Raises:
            ExportError: If the policy cannot be exported; nothing was changed.
        """
        module_id = self.get_module_id() if module_id is None else module_id
        env_to_module, module_to_env = self.env_runner.connectors_of(module_id)
        return self.learner.export(
            path,
            module_id=module_id,
            format=format,
            include_update=include_update,
            example_batch=example_batch,
            env_to_module=env_to_module,
            module_to_env=module_to_env,
        )

    def stop(self) -> None:
        """Closes the environments, after a save in the background has finished.

        Environments have 5 seconds to close. Then worker processes
        (`gym_env_vectorize_mode="async"`) are ended. In this process, `close()` is
        interrupted if it runs Python code on the main thread; native code cannot be.
        """
        try:
            self.wait_until_saved()
        finally:
            self.env_runner.stop()

    # What people see.

    def summary(self) -> None:
        """Prints spaces, networks, parameters and how an update is put together."""
        summary.print_summary(self._headline(), self._summary_rows())

    def _headline(self) -> str:
        count = sum(int(np.prod(w.shape)) for w in self._weights())
        environments = self.env_runner.num_envs
        plural = "environment" if environments == 1 else "environments"
        return (
            f"{self._name} on {self._env_name} · {count:,} parameters · "
            f"{environments} {plural}"
        )

    def _summary_rows(self) -> list[tuple[str, str]]:
        config, module = self.config, self.get_module()
        rows = [
            ("observations", str(module.observation_space)),
            ("actions", str(module.action_space)),
            ("module", type(module).__name__),
        ]
        for weight in module.weights:
            rows.append((f"  {weight.path}", str(tuple(weight.shape))))
        rows += [
            *self._update_rows(),
            ("acting", acting.make_actor(module).description),
            ("jit_compile", str(config.jit_compile)),
        ]
        return rows + [("traced", line) for line in self.learner.describe_updates()]

    def _update_rows(self) -> list[tuple[str, str]]:
        """Returns the lines of the summary that describe an update."""
        config = self.config
        batch = config.train_batch_size_per_learner
        minibatch = config.minibatch_size or batch
        steps = -(-config.num_epochs * batch // minibatch)
        return [
            ("update", f"{batch:,} steps, passes over them: {config.num_epochs}"),
            ("", f"{steps:,} gradient steps of {minibatch:,} rows, one traced call"),
            ("learning rate", str(config.lr)),
        ]

    def _weights(self) -> list[Any]:
        modules = self.learner.module.values()
        return [w for m in modules for w in getattr(m.unwrapped(), "weights", [])]

    def _callback_model(self) -> CallbackModel:
        def set_weights(values):
            for weight, value in zip(self._weights(), values, strict=True):
                weight.assign(value)

        optimizers = self.learner.get_optimizers_for_module(
            next(iter(self.learner.module))
        )
        return CallbackModel(
            lambda: [weight.numpy() for weight in self._weights()],
            set_weights,
            optimizers[0][1] if optimizers else None,
            self.save,
        )


def _check_count(where: str, name: str, value: Any) -> None:
    if not is_int(value, 1):
        raise UsageError(where, f"{name}={value!r}", "an int >= 1")
