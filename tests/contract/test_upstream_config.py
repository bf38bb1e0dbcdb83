"""Cases that RLlib's own tests hold of configs."""

import pytest

from tflearner.algorithms.ppo import PPOConfig
from tflearner.modules.actor_critic import PPOTfRLModule
from tflearner.modules.catalog import PPOCatalog
from tflearner.modules.rl_module_spec import MultiRLModuleSpec, RLModuleSpec


def test_frozen_config_refuses_and_its_copy_takes_settings():
    config = PPOConfig().training(lr=0.5)
    config.freeze()
    for change in (
        lambda: setattr(config, "lr", 0.25),
        lambda: config.training(lr=0.25),
        lambda: config.multi_agent(policies=["p0"]),
    ):
        with pytest.raises(AttributeError, match="frozen"):
            change()
    duplicate = config.copy(copy_frozen=False).training(lr=0.25)
    assert (config.lr, duplicate.lr) == (0.5, 0.25)
    assert config.copy().is_frozen


def test_overrides_of_a_module_are_laid_over_the_config():
    overrides = {"p1": PPOConfig.overrides(lr=0.25, kl_coeff=7.0)}
    config = PPOConfig().training(lr=0.5)
    config.multi_agent(algorithm_config_overrides_per_module=overrides)
    own = config.get_config_for_module("p1")
    assert (own.lr, own.kl_coeff, own.gamma) == (0.25, 7.0, config.gamma)
    assert config.get_config_for_module("p1") is own
    assert config.get_config_for_module("p0") is config and config.lr == 0.5


def test_overrides_follow_later_changes():
    config = PPOConfig().multi_agent(
        algorithm_config_overrides_per_module={"p1": {"lr": 0.25}}
    )
    config.get_config_for_module("p1")
    config.training(gamma=0.5)
    assert config.get_config_for_module("p1").gamma == 0.5
    config.multi_agent(algorithm_config_overrides_per_module={"p1": {"lr": 0.125}})
    assert config.get_config_for_module("p1").lr == 0.125
    config.multi_agent(algorithm_config_overrides_per_module={})
    assert config.get_config_for_module("p1") is config


def test_overrides_of_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="did you mean 'lr'"):
        PPOConfig.overrides(lrr=0.1)
    with pytest.raises(ValueError, match="did you mean 'lr'"):
        PPOConfig().multi_agent(
            algorithm_config_overrides_per_module={"p1": {"lrr": 0.1}}
        )


@pytest.mark.parametrize(
    ("size", "minibatch_size", "fits"),
    [(100, 100, True), (100, 101, False), (100, 0, False), (100, None, True)],
)
def test_minibatches_fit_into_the_train_batch(size, minibatch_size, fits):
    config = PPOConfig().training(
        train_batch_size_per_learner=size, minibatch_size=minibatch_size
    )
    if fits:
        config.validate()
    else:
        with pytest.raises(ValueError, match="minibatch_size"):
            config.validate()


class OfTheUser(PPOTfRLModule):
    pass


class OfOneModule(PPOTfRLModule):
    pass


class OwnCatalog(PPOCatalog):
    pass


SINGLE = RLModuleSpec(OfTheUser)
CASES = {
    "the algorithm's": (None, {}, (PPOTfRLModule, PPOTfRLModule)),
    "the user's": (SINGLE, {}, (OfTheUser, OfTheUser)),
    "one for all ids": (MultiRLModuleSpec(SINGLE), {}, (OfTheUser, OfTheUser)),
    "one by id": (
        MultiRLModuleSpec({"p0": SINGLE, "p1": RLModuleSpec(OfOneModule)}),
        {},
        (OfTheUser, OfOneModule),
    ),
    "incomplete": (
        MultiRLModuleSpec({"p0": SINGLE, "p1": RLModuleSpec(model_config={})}),
        {},
        (OfTheUser, PPOTfRLModule),
    ),
    "a policy's own": (
        SINGLE,
        {"p1": RLModuleSpec(OfOneModule)},
        (OfTheUser, OfOneModule),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_closest_specification_of_a_module_counts(make_config, case):
    spec, own, wanted = CASES[case]
    config = make_config(policies={"p0": None, "p1": None} | own, rl_module_spec=spec)
    specs = config.get_multi_rl_module_spec().rl_module_specs
    assert [*specs] == ["p0", "p1"]
    assert tuple(one.module_class for one in specs.values()) == wanted
    for one in specs.values():  # What it does not say comes from further away.
        assert one.catalog_class is PPOCatalog and one.action_space.n == 2


def test_parts_of_a_specification_win_one_by_one(make_config):
    config = make_config(rl_module_spec=RLModuleSpec(catalog_class=OwnCatalog))
    spec = config.get_rl_module_spec()
    assert (spec.module_class, spec.catalog_class) == (PPOTfRLModule, OwnCatalog)


def test_not_provided_is_something_else_than_none():
    config = PPOConfig().training(grad_clip=0.5)
    assert config.training(lr=0.1).grad_clip == 0.5
    assert config.training(grad_clip=None).grad_clip is None


def test_a_built_learner_can_be_built_again(make_config):
    config = make_config()
    learner = config.build_learner()
    module = learner.module
    learner.build()
    assert learner.module is module and learner.config is not config
