"""RLlib's interface to the learners of a run, for one learner in this process."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from tflearner.checkpoint.components import Components
from tflearner.config import AlgorithmConfig
from tflearner.constants import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from tflearner.data.sample_batch import concat_multi_agent_batches
from tflearner.errors import UsageError
from tflearner.intake import train_batch
from tflearner.intake.deferred import Lost
from tflearner.intake.items import only_one
from tflearner.modules.rl_module_spec import MultiRLModuleSpec, RLModuleSpec
from tflearner.types import ModuleID, ResultDict, StateDict


class CallResult(NamedTuple):
    """The result of one learner from `LearnerGroup.foreach_learner`.

    Attributes:
        value: The value.
        ok: Always True: errors of a learner in this process are raised.
    """

    value: Any
    ok: bool = True

    def get(self) -> Any:
        """Returns the value."""
        return self.value


class LearnerGroup:
    """Builds a learner in this process and updates it, with RLlib's group interface.

        group = PPOConfig().build_learner_group(env=env)
        results = group.update(episodes=episodes, num_epochs=2, minibatch_size=64)[0]
        weights = group.get_weights()

    Args:
        config: The settings. The learner's class is `learner_class` or the algorithm's
            default.
        module_spec: The specification of the module or modules; `None` uses the
            config's.
        placement_group: Ignored; RLlib's signature has it.
    """

    def __init__(
        self,
        *,
        config: AlgorithmConfig,
        module_spec: RLModuleSpec | MultiRLModuleSpec | None = None,
        placement_group: Any = None,
    ):
        learner_class = config.get_learner_class()
        self._learner = learner_class(config=config, module_spec=module_spec)
        self._learner.build()

    @property
    def config(self) -> AlgorithmConfig:
        """The learner's settings, including modules that were added later."""
        return self._learner.config

    @property
    def is_local(self) -> bool:
        """Whether the learner runs in this process."""
        return True

    @property
    def is_remote(self) -> bool:
        """Whether learners run in other processes."""
        return False

    def __len__(self) -> int:
        """Returns the number of learners in other processes: 0."""
        return 0

    def __bool__(self) -> bool:
        return True  # Otherwise a group of no remote learners would be false.

    def update(
        self,
        *,
        batch: Any = None,
        batches: Any = None,
        batch_refs: Any = None,
        episodes: Any = None,
        episodes_refs: Any = None,
        data_iterators: Any = None,
        async_update: bool = False,
        return_state: bool = False,
        **kwargs: Any,
    ) -> list[ResultDict]:
        """Updates the learner from exactly one kind of data.

        Args:
            batch: As for `Learner.update_from_batch`.
            batches: A list of `MultiAgentBatch`es, which are concatenated.
            batch_refs: Object references to batches, or functions that return batches.
            episodes: As for `Learner.update_from_episodes`.
            episodes_refs: Object references to episodes, or functions that return
                episodes.
            data_iterators: As for `Learner.update`.
            async_update: Must be False: the learner runs in this process.
            return_state: Whether the result holds the module's weights under
                "_rl_module_state_after_update".
            **kwargs: As for the learner's update methods.

        Returns:
            A list with the learner's results.

        Raises:
            UsageError: Unless exactly one kind of data is given.
        """
        if async_update:
            raise UsageError(
                "LearnerGroup.update(async_update=True)",
                "a group whose learner runs in this process",
                hint="omit async_update",
            )
        given = {
            "batch": batch,
            "batches": batches,
            "batch_refs": batch_refs,
            "episodes": episodes,
            "episodes_refs": episodes_refs,
            "data_iterators": data_iterators,
        }
        name = only_one("LearnerGroup.update()", given)
        if name in ("batches", "batch_refs"):
            lost = Lost(self.config.deferred_data_timeout_s)
            found = lost.resolve_all(given[name])
            lost.check(found)
            found = found if isinstance(found, list) else [found]
            modules = self._learner.module
            found = [train_batch.from_columns(own, modules) for own in found]
            name, given["batch"] = "batch", concat_multi_agent_batches(found)
            self._learner.log_lost(lost)
        elif name == "episodes_refs":
            name, given["episodes"] = "episodes", episodes_refs
        results = self._learner.update(**{name: given[name]}, **kwargs)
        if return_state:
            results["_rl_module_state_after_update"] = self.get_weights()
        return [results]

    def update_from_batch(self, batch: Any, **kwargs: Any) -> list[ResultDict]:
        """Updates the learner from a batch; equal to `update(batch=...)`."""
        return self.update(batch=batch, **kwargs)

    def update_from_episodes(self, episodes: Any, **kwargs: Any) -> list[ResultDict]:
        """Updates the learner from episodes; equal to `update(episodes=...)`."""
        return self.update(episodes=episodes, **kwargs)

    def add_module(self, **kwargs: Any) -> MultiRLModuleSpec:
        """Adds a module to the learner, see `Learner.add_module`."""
        return self._learner.add_module(**kwargs)

    def remove_module(self, module_id: ModuleID, **kwargs: Any) -> MultiRLModuleSpec:
        """Removes a module from the learner, see `Learner.remove_module`."""
        return self._learner.remove_module(module_id, **kwargs)

    def foreach_learner(
        self, func: Callable[..., Any], **kwargs: Any
    ) -> list[CallResult]:
        """Calls `func(learner, **kwargs)` and returns a list with the `CallResult`.

        Args:
            func: The function.
            **kwargs: The function's keyword arguments. RLlib's options for calls in
                other processes are ignored.
        """
        for name in _OF_REMOTE_CALLS:
            kwargs.pop(name, None)
        return [CallResult(self._learner.apply(func, **kwargs))]

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> StateDict:
        """Returns the state: {"learner": the learner's state}.

        Args:
            components: Components such as "learner/rl_module"; `None` selects all.
            not_components: Components to exclude.
            **kwargs: As for `Learner.get_state`.
        """
        selected = Components(components, not_components)
        for path in selected.paths():
            if path.split("/")[0] != COMPONENT_LEARNER:
                raise UsageError(
                    "components", repr(path), "paths like 'learner/rl_module'"
                )
        if not selected.include(COMPONENT_LEARNER):
            return {}
        below = selected.below(COMPONENT_LEARNER)
        state = self._learner.get_state(
            components=below.wanted, not_components=below.unwanted, **kwargs
        )
        return {COMPONENT_LEARNER: state}

    def set_state(self, state: StateDict, **kwargs: Any) -> dict[str, list]:
        """Restores the learner from `state`, see `Learner.set_state`."""
        if not isinstance(state, dict) or state.keys() - {COMPONENT_LEARNER}:
            got = [*state] if isinstance(state, dict) else repr(state)
            raise UsageError(
                "set_state()", str(got), f"a dict with {COMPONENT_LEARNER!r}"
            )
        return self._learner.set_state(state.get(COMPONENT_LEARNER, {}), **kwargs)

    def get_weights(
        self, module_ids: ModuleID | Collection[ModuleID] | None = None
    ) -> StateDict:
        """Returns the learner's weights by module.

        Args:
            module_ids: The ids of the modules; `None` selects all.
        """
        names = [module_ids] if isinstance(module_ids, str) else module_ids
        components: Any = COMPONENT_RL_MODULE
        if names is not None:
            components = [f"{components}/{module_id}" for module_id in names]
        return self._learner.get_state(components).get(COMPONENT_RL_MODULE, {})

    def set_weights(self, weights: StateDict) -> None:
        """Replaces the weights of the modules named in `weights`."""
        self._learner.set_state({COMPONENT_RL_MODULE: weights})

    def get_stats(self) -> dict[str, Any]:
        """Returns RLlib's statistics of pending calls; no call is ever pending here."""
        return {
            "learner_group_ts_dropped_lifetime": 0,
            "actor_manager_num_outstanding_async_reqs": 0,
        }

    def shutdown(self) -> None:
        """Shuts the learner down."""
        self._learner.shutdown()


_OF_REMOTE_CALLS = (
    "healthy_only",
    "remote_actor_ids",
    "timeout_seconds",
    "return_obj_refs",
    "mark_healthy",
)
