"""Settings: set, refused, copied, frozen, layered and checked."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest

from tflearner.algorithms.dqn import DQNConfig
from tflearner.algorithms.ppo import PPO, PPOConfig, PPOTfLearner
from tflearner.config import AlgorithmConfig
from tflearner.connectors.connector import ConnectorV2
from tflearner.constants import DEFAULT_MODULE_ID
from tflearner.errors import ConfigError, FrozenConfigError, TFLearnerError
from tflearner.learner.tf_learner import TfLearner
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.catalog import PPOCatalog
from tflearner.modules.default_model_config import DefaultModelConfig
from tflearner.modules.rl_module_spec import MultiRLModuleSpec, RLModuleSpec
from tflearner.settings.bounds import number

BOX, DISCRETE = gym.spaces.Box(-1, 1, (3,), np.float32), gym.spaces.Discrete(2)
SECTIONS = {
    "environment": {"env": "CartPole-v1", "env_config": {"x": 1}},
    "env_runners": {"num_envs_per_env_runner": 4, "explore": False},
    "training": {"gamma": 0.5, "lr": [[0, 0.1], [9, 0.0]], "grad_clip": 1.0},
    "learners": {"num_learners": 1},
    "rl_module": {"model_config": {"fcnet_hiddens": [8]}, "model": None},
    "multi_agent": {"policies_to_train": ["p0"]},
    "framework": {"jit_compile": False, "run_eagerly": True},
    "evaluation": {"evaluation_interval": 3, "evaluation_duration": 5},
    "debugging": {"seed": 7},
    "reporting": {"metrics_num_episodes_for_smoothing": 10},
}
FIELDS = sorted(field.name for field in dataclasses.fields(PPOConfig))


# Setting.


@pytest.mark.parametrize("section", SECTIONS)
def test_section_sets_its_fields_and_returns_the_config(section):
    config = PPOConfig()
    assert getattr(config, section)(**SECTIONS[section]) is config
    for name, value in SECTIONS[section].items():
        assert getattr(config, name) == value
    config.validate()


def test_every_field_has_a_section_and_a_setter():
    for field in dataclasses.fields(PPOConfig):
        assert field.metadata["section"] in SECTIONS
    values = {name: getattr(PPOConfig(), name) for name in FIELDS}
    assert repr(PPOConfig().update_from_dict(values)) == repr(PPOConfig())


@pytest.mark.parametrize("section", ["training", "learners"])
def test_settings_of_the_learner_have_two_places(section):
    settings = {
        "learner_class": PPOTfLearner,
        "learner_connector": lambda obs, act: None,
        "learner_config_dict": {"x": 1},
        "add_default_connectors_to_learner_pipeline": False,
    }
    config = getattr(PPOConfig(), section)(**settings)
    assert {name: getattr(config, name) for name in settings} == settings
    with pytest.raises(ConfigError, match=r"'learner_class' belongs to .training\(\)"):
        config.env_runners(learner_class=PPOTfLearner)


def test_log_gradients_has_two_places():
    assert PPOConfig().reporting(log_gradients=True).log_gradients
    assert PPOConfig().training(log_gradients=True).log_gradients


def test_environment_takes_the_env_first():
    config = PPOConfig().environment("A").environment(clip_actions=True)
    assert config.env == "A" and config.clip_actions


def test_none_is_a_value():
    config = PPOConfig().training(grad_clip=1.0, minibatch_size=None)
    assert config.training(grad_clip=None).grad_clip is None
    assert config.minibatch_size is None


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda c: c.training(clip_parm=1),
            r"PPOConfig.training\(\): no setting 'clip_parm'.*did you mean 'clip_param'",
        ),
        (lambda c: c.training(env="x"), r"'env' belongs to .environment\(\)"),
        (lambda c: c.env_runners(lr=0.1), r"'lr' belongs to .training\(\)"),
        (lambda c: c.training(n_epochs=1), "it is called 'num_epochs' here"),
        (lambda c: c.training(sgd_minibatch_size=1), "called 'minibatch_size' here"),
        (lambda c: c.update_from_dict({"lamda": 1}), "did you mean 'lambda_'"),
        (lambda c: setattr(c, "gama", 1), "PPOConfig: unknown.*did you mean 'gamma'"),
        (lambda c: PPOConfig.overrides(gama=1), r"overrides\(\).*did you mean 'gamma'"),
        (
            lambda c: c.multi_agent(
                algorithm_config_overrides_per_module={"p0": {"gama": 1}}
            ),
            "overrides of module 'p0'.*did you mean 'gamma'",
        ),
        (lambda c: c.framework("torch"), r"framework\(\): got 'torch', want 'tf2'"),
        (lambda c: c.training(zzzzz=1), "no setting 'zzzzz'; it takes .*clip_param, "),
    ],
)
def test_unknown_setting_is_refused_with_a_hint(call, text):
    config = PPOConfig()
    with pytest.raises(ConfigError, match=text):
        call(config)
    assert repr(config) == repr(PPOConfig())


def test_refused_call_sets_nothing():
    config = PPOConfig()
    with pytest.raises(ConfigError):
        config.training(gamma=0.5, gama=0.5)
    assert config.gamma == 0.99
    with pytest.raises(ConfigError):
        config.update_from_dict({"gamma": 0.5, "gama": 0.5})
    assert config.gamma == 0.99


def test_renamed_hint_needs_such_a_setting():
    with pytest.raises(ConfigError) as error:
        AlgorithmConfig().training(clip_range=0.1)
    assert "clip_param" not in str(error.value)


def test_framework_by_name():
    assert PPOConfig().framework("tf2", jit_compile=True).jit_compile is True


# Copying and freezing.


def test_copy_shares_no_container():
    config = PPOConfig().environment(env_config={"a": {"b": 1}})
    config.training(lr=[[0, 0.1], [9, 0.0]])
    config.multi_agent(algorithm_config_overrides_per_module={"p": {"lr": 1.0}})
    copy = config.copy()
    copy.env_config["a"]["b"] = 2
    copy.lr.append([10, 0.0])
    copy.algorithm_config_overrides_per_module["p"]["lr"] = 2.0
    copy.training(gamma=0.1)
    assert config.env_config == {"a": {"b": 1}} and config.gamma == 0.99
    assert len(config.lr) == 2 and config.get_config_for_module("p").lr == 1.0


def test_frozen_config_refuses_changes():
    config = PPOConfig()
    config.freeze()
    for change in (
        lambda: config.training(gamma=0.1),
        lambda: setattr(config, "gamma", 0.1),
        lambda: config.update_from_dict({"gamma": 0.1}),
    ):
        with pytest.raises(FrozenConfigError, match="copy_frozen=False") as error:
            change()
        assert isinstance(error.value, AttributeError)
    assert config.gamma == 0.99


@pytest.mark.parametrize("frozen", [True, False])
def test_copies_are_frozen_on_demand(frozen):
    config = PPOConfig()
    if frozen:
        config.freeze()
    assert config.copy().is_frozen == frozen
    assert config.copy(copy_frozen=True).is_frozen
    assert not config.copy(copy_frozen=False).is_frozen
    assert config.is_frozen == frozen


# Modules with settings of their own.


def test_overrides_are_layered_over_the_config():
    config = PPOConfig().training(gamma=0.5)
    config.multi_agent(
        algorithm_config_overrides_per_module={"p1": PPOConfig.overrides(lr=0.25)}
    )
    assert config.get_config_for_module("p0") is config
    own = config.get_config_for_module("p1")
    assert (own.lr, own.gamma, config.lr) == (0.25, 0.5, 5e-5)
    config.training(gamma=0.7)  # Nothing is cached.
    assert config.get_config_for_module("p1").gamma == 0.7
    config.multi_agent(algorithm_config_overrides_per_module={})
    assert config.get_config_for_module("p1") is config


def test_overrides_of_a_frozen_config_are_frozen():
    config = PPOConfig().rl_module(
        algorithm_config_overrides_per_module={"p1": {"lr": 0.25}}
    )
    config.freeze()
    assert config.get_config_for_module("p1").is_frozen


def test_policies_may_be_a_list_of_ids():
    assert PPOConfig().multi_agent(policies=["a", "b"]).policies == {
        "a": None,
        "b": None,
    }


# Checking.

BAD = {
    "num_envs_per_env_runner": [0, 2.0, True, None],
    "rollout_fragment_length": [0],
    "train_batch_size_per_learner": [0, -1, 2.5, "32"],
    "num_epochs": [0, None],
    "minibatch_size": [0, -1, 2.5, True, 5000],
    "evaluation_duration": [0],
    "evaluation_interval": [0],
    "num_learners": [-1, 2],
    "episode_lookback_horizon": [-1],
    "metrics_num_episodes_for_smoothing": [0],
    "seed": [-1, 1.5, "1"],
    "gym_env_vectorize_mode": ["vector", None],
    "autoreset_mode": ["now"],
    "grad_clip_by": ["global", None],
    "grad_clip": [0, 0.0, -1.0, float("nan"), float("inf"), 1e39, "1", True],
    "non_finite_updates": ["ignore"],
    "max_non_finite_updates_in_a_row": [0, -1, 2.5, True, "100"],
    "jit_compile": ["yes", None, 1],
    "framework_str": ["torch"],
    "gamma": [-0.1, 1.1, float("nan"), None],
    "lr": [-1.0, 1e39, 10**400, None, "0.1", True, [], [[0, 0.1], [5, -0.1]]],
    "entropy_coeff": [1e39, 10**400, [[0, 1.0], [5, 1e39]]],
    "vf_loss_coeff": [1e39, float("inf")],
    "kl_coeff": [1e39, float("inf")],
    "vf_clip_param": [1e39, 10**400, -1.0],
    "policies_to_train": ["p0", 3],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in BAD for value in BAD[name]]
)
def test_impossible_setting_is_named(name, value):
    config = PPOConfig().update_from_dict({name: value})
    with pytest.raises((ConfigError, TFLearnerError), match=name):
        config.validate()


def test_settings_that_contradict():
    config = PPOConfig().framework(run_eagerly=True, jit_compile=True)
    with pytest.raises(ConfigError, match="run_eagerly=True with jit_compile=True"):
        config.validate()


@pytest.mark.parametrize("name", FIELDS)
def test_validate_raises_nothing_but_its_own_errors(name):
    for value in (None, -1, 0, 2.5, "x", [], {}, object(), float("nan"), True, (1,)):
        config = PPOConfig()
        object.__setattr__(config, name, value)
        try:
            config.validate()
        except TFLearnerError as error:
            assert name in str(error) or "minibatch_size" in str(error)


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": np.float32(0.1), "grad_clip": np.float64(0.5)},
        {"num_epochs": np.int64(3), "seed": np.int32(0)},
        {"lr": 0, "gamma": 1, "grad_clip": 1},
        {"lr": [[0, 0.1], [9, 0]], "policies_to_train": {"p0"}},
        {"policies_to_train": lambda module_id, batch: True},
        {"minibatch_size": None, "num_learners": 1},
    ],
)
def test_possible_settings_pass(settings):
    PPOConfig().update_from_dict(settings).validate()


# What is built.


def test_base_config_names_no_learner_and_no_algorithm():
    config = AlgorithmConfig(observation_space=BOX, action_space=DISCRETE)
    with pytest.raises(ConfigError, match="no learner class.*learner_class="):
        config.build_learner()
    with pytest.raises(ConfigError, match="no algorithm class.*PPOConfig"):
        config.build_algo()


def test_ppo_names_both():
    config = PPOConfig()
    assert config.get_default_learner_class() is PPOTfLearner
    assert config.get_default_algorithm_class() is PPO


def test_specification_of_the_module_by_default():
    spec = PPOConfig().get_rl_module_spec(spaces=(BOX, DISCRETE))
    assert (spec.module_class, spec.catalog_class) == (PPOTfRLModule, PPOCatalog)
    assert (spec.observation_space, spec.action_space) == (BOX, DISCRETE)
    assert spec.model_config is None and not spec.inference_only
    module = spec.build()
    assert module.model_config == DefaultModelConfig()
    assert RLModuleSpec.from_module(module) == spec


class OwnModule(PPOTfRLModule):
    pass


def test_specification_prefers_what_is_said_most_closely():
    other = gym.spaces.Box(-1, 1, (7,), np.float32)
    config = PPOConfig().environment(observation_space=BOX, action_space=DISCRETE)
    config.rl_module(
        model_config={"fcnet_hiddens": [4]},
        rl_module_spec=RLModuleSpec(module_class=OwnModule, observation_space=other),
    )
    spec = config.get_rl_module_spec(
        spaces=(gym.spaces.Box(-1, 1, (9,)), gym.spaces.Discrete(9)),
        inference_only=True,
    )
    assert spec.module_class is OwnModule  # The specification before the default.
    assert spec.observation_space is other  # It before the config, and that before
    assert spec.action_space is DISCRETE  # the environment.
    assert spec.catalog_class is PPOCatalog and spec.inference_only
    assert spec.model_config == {"fcnet_hiddens": [4]}
    config.rl_module_spec.model_config = {"fcnet_hiddens": [6]}
    assert config.get_rl_module_spec().model_config == {"fcnet_hiddens": [6]}


def test_own_model_goes_into_the_model_config():
    def model():
        raise AssertionError("called when the module is built")

    config = PPOConfig().rl_module(model=model, model_config={"vf_share_layers": False})
    own = config.get_rl_module_spec(spaces=(BOX, DISCRETE)).model_config
    assert own.model is model and not own.vf_share_layers


def test_spaces_are_read_off_environments():
    spec = PPOConfig().get_rl_module_spec(env=gym.make("CartPole-v1"))
    assert spec.observation_space.shape == (4,) and spec.action_space.n == 2
    vector = gym.make_vec("CartPole-v1", 2)
    spec = PPOConfig().get_rl_module_spec(env=vector)
    assert spec.observation_space.shape == (4,) and spec.action_space.n == 2


def specs_of(config, **kwargs):
    return dict(config.get_multi_rl_module_spec(**kwargs).rl_module_specs)


def test_modules_of_a_config():
    spaces = {"a": (BOX, DISCRETE)}
    own = RLModuleSpec(module_class=OwnModule)
    assert [*specs_of(PPOConfig())] == [DEFAULT_MODULE_ID]
    config = PPOConfig().multi_agent(policies={"a": None, "b": own})
    specs = specs_of(config, spaces=spaces)
    assert specs["a"].module_class is PPOTfRLModule
    assert specs["b"].module_class is OwnModule
    assert specs["a"].observation_space is BOX and specs["b"].observation_space is None
    config = PPOConfig().multi_agent(policies=["a", "b"])
    config.rl_module(rl_module_spec=own)
    assert {s.module_class for s in specs_of(config).values()} == {OwnModule}
    config = PPOConfig().rl_module(rl_module_spec=MultiRLModuleSpec({"c": own}))
    assert specs_of(config)["c"].module_class is OwnModule


class Piece(ConnectorV2):
    def __call__(self, *, batch, **kwargs):
        return batch


class OtherLearner(TfLearner):
    def compute_loss_for_module(self, **kwargs):
        raise NotImplementedError


def names(pipeline):
    return [type(piece).__name__ for piece in pipeline]


def test_own_pieces_come_first():
    config = PPOConfig()
    config.training(learner_connector=lambda obs, act: Piece(obs, act))
    config.env_runners(
        env_to_module_connector=lambda obs, act: [Piece(obs, act), Piece(obs, act)],
        module_to_env_connector=lambda obs, act: None,
    )
    defaults = [
        "AddObservationsFromEpisodesToBatch",
        "AddColumnsFromEpisodesToTrainBatch",
        "AddTimeDimToBatchAndZeroPad",
        "AddStatesFromEpisodesToBatch",
        "AgentToModuleMapping",
        "BatchIndividualItems",
    ]
    assert names(config.build_learner_connector()) == [
        "AddOneTsToEpisodesAndTruncate",
        "Piece",
        *defaults,
        "GeneralAdvantageEstimation",
        "StandardizeAdvantages",
    ]
    # The pieces that PPO's loss needs are no use to another loss.
    config.learner_class = OtherLearner
    assert names(config.build_learner_connector()) == ["Piece", *defaults]
    assert names(config.build_env_to_module_connector(BOX, DISCRETE)) == ["Piece"] * 2
    assert names(config.build_module_to_env_connector(BOX, DISCRETE)) == [
        "GetActions",
        "NormalizeAndClipActions",
    ]
    config.training(add_default_connectors_to_learner_pipeline=False)
    assert names(config.build_learner_connector()) == ["Piece"]


def test_impossible_config_builds_no_learner():
    config = PPOConfig().training(grad_clip=-1.0)
    with pytest.raises(ConfigError, match="grad_clip"):
        config.build_learner(spaces={DEFAULT_MODULE_ID: (BOX, DISCRETE)})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"clip_param": -1}, "clip_param"),
        ({"gamma": 0.5}, "'gamma', which all modules share"),
        ({"num_envs_per_env_runner": 2}, "which all modules share"),
    ],
)
def test_overrides_of_a_module_are_validated(changes, text):
    config = PPOConfig().multi_agent(
        algorithm_config_overrides_per_module={"p0": changes}
    )
    with pytest.raises(ConfigError, match=text):
        config.validate()


def test_a_misspelt_name_of_another_library_is_understood():
    with pytest.raises(ConfigError, match="it is called 'lr' here"):
        PPOConfig().training(learning_rat=0.1)


class RLlibStyle(PPOConfig):
    def __init__(self):
        super().__init__()
        self.my_coeff = 0.5
        self.lr = 0.25

    def training(self, *, my_coeff=None, **settings):
        super().training(**settings)
        if my_coeff is not None:
            self.my_coeff = my_coeff
        return self


def test_a_subclass_may_add_settings_in_its_constructor():
    config = RLlibStyle().training(my_coeff=2.0, gamma=0.5)
    assert (config.my_coeff, config.lr, config.gamma) == (2.0, 0.25, 0.5)
    copied = config.copy(copy_frozen=False)
    copied.my_coeff = 3.0
    assert config.my_coeff == 2.0 and copied.my_coeff == 3.0
    with pytest.raises(ConfigError, match="'my_coef'"):
        config.my_coef = 1.0


@dataclasses.dataclass
class WithField(PPOConfig):
    my_coeff: float = 0.5


def test_a_field_without_a_section_is_set_by_training():
    assert WithField().training(my_coeff=1.5).my_coeff == 1.5


def test_hints_come_from_the_section_that_is_set():
    with pytest.raises(ConfigError, match="did you mean 'num_envs_per_env_runner'"):
        PPOConfig().env_runners(num_envs_per_env_runer=1)
    with pytest.raises(ConfigError, match="did you mean 'num_learners'"):
        PPOConfig().learners(num_learner=0)


def test_overrides_are_dicts():
    with pytest.raises(ConfigError, match="overrides of module 'p'.*want a dict"):
        PPOConfig().multi_agent(
            algorithm_config_overrides_per_module={"p": PPOConfig()}
        )


def test_algorithms_take_configs_of_their_own():
    for config in (DQNConfig(), AlgorithmConfig()):
        with pytest.raises(ConfigError, match=r"PPO\(config=...\).*want a PPOConfig"):
            PPO(config=config.environment("CartPole-v1"))


class Raises:
    def __call__(self, observation_space, action_space):
        raise RuntimeError("the user's own")


@pytest.mark.parametrize("make", [Raises(), lambda: None, int, lambda obs, act: 5])
def test_connector_functions_that_fail_are_named(make):
    config = PPOConfig().env_runners(env_to_module_connector=make)
    config.validate()
    with pytest.raises(
        ConfigError, match="env_to_module_connector|EnvToModulePipeline"
    ):
        config.build_env_to_module_connector(BOX, DISCRETE)
    for wrong in (5, "MeanStdFilter", [Piece]):
        with pytest.raises(ConfigError, match="env_to_module_connector.*a function of"):
            PPOConfig().env_runners(env_to_module_connector=wrong).validate()


@pytest.mark.parametrize(
    "value", [10**400, 10**5000, -(10**400)], ids=["1e400", "1e5000", "-1e400"]
)
@pytest.mark.parametrize(
    "name", ["lr", "gamma", "num_epochs", "seed", "minibatch_size"]
)
def test_integers_that_no_float_holds_are_refused(name, value):
    config = PPOConfig().update_from_dict({name: value})
    with pytest.raises(TFLearnerError, match=name):
        config.validate()


@dataclasses.dataclass
class Redeclared(PPOConfig):
    seed: int = 3
    clip_param: float = dataclasses.field(default=0.1, metadata=number(0.0, 0.2))
    lambda_: float = 0.5


def test_a_field_declared_again_keeps_its_section_and_its_bound():
    config = Redeclared().debugging(seed=5).training(lambda_=0.9)
    assert (config.seed, config.lambda_) == (5, 0.9)
    config.validate()
    with pytest.raises(ConfigError, match=r"Redeclared.lambda_: got 1.5"):
        config.training(lambda_=1.5).validate()
    with pytest.raises(ConfigError, match=r"Redeclared.seed: got -1, want an int >= 0"):
        Redeclared(seed=-1).validate()


def test_a_field_declared_again_may_name_another_bound():
    Redeclared(clip_param=0.2).validate()
    with pytest.raises(ConfigError, match=r"clip_param: got 0.3, want .* \[0, 0.2\]"):
        Redeclared(clip_param=0.3).validate()


def test_lambda_is_one_for_all_modules_of_ppo():
    assert "lambda_" in PPOConfig.learner_wide
    assert "lambda_" not in AlgorithmConfig.learner_wide
    config = PPOConfig().multi_agent(
        algorithm_config_overrides_per_module={"p0": {"lambda_": 0.5}}
    )
    with pytest.raises(ConfigError, match="'lambda_', which all modules share"):
        config.validate()


def test_counts_of_replay_may_be_integers_of_numpy():
    buffer = {"capacity": np.int64(100)}
    config = DQNConfig().training(n_step=np.int64(3), replay_buffer_config=buffer)
    config.validate()
    with pytest.raises(ConfigError, match=r"n_step: got \(True, 2\), want an int >= 1"):
        config.training(n_step=(True, 2)).validate()
