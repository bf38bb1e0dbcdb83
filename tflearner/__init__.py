"""The reinforcement-learning learner for TensorFlow 2 and Keras 3.

    import tflearner as tfl

    algo = tfl.PPO("CartPole-v1", seed=1)
    history = algo.fit(total_steps=100_000)
    print(algo.evaluate(episodes=20))

Names are loaded when they are first used: importing this package loads the standard
library only.
"""

import importlib
from typing import Any

from tflearner import forks as forks  # Has to be loaded before any fork.

# Public name -> the module it lives in, station by station.
_PUBLIC = {
    # Names.
    "Columns": "columns",
    "ALL_MODULES": "constants",
    "COMPONENT_ENV_RUNNER": "constants",
    "COMPONENT_ENV_TO_MODULE_CONNECTOR": "constants",
    "COMPONENT_LEARNER": "constants",
    "COMPONENT_LEARNER_GROUP": "constants",
    "COMPONENT_METRICS_LOGGER": "constants",
    "COMPONENT_MODULE_TO_ENV_CONNECTOR": "constants",
    "COMPONENT_OPTIMIZER": "constants",
    "COMPONENT_REPLAY_BUFFER": "constants",
    "COMPONENT_RL_MODULE": "constants",
    "DATASET_NUM_ITERS_TRAINED": "constants",
    "DATASET_NUM_ITERS_TRAINED_LIFETIME": "constants",
    "DEFAULT_MODULE_ID": "constants",
    "DEFAULT_OPTIMIZER": "constants",
    "DIFF_NUM_GRAD_UPDATES_VS_SAMPLER_POLICY": "constants",
    "ENTROPY_KEY": "constants",
    "ENV_RUNNER_RESULTS": "constants",
    "EPISODE_LEN_MEAN": "constants",
    "EPISODE_RETURN_MEAN": "constants",
    "INPUT_ENV_SINGLE_SPACES": "constants",
    "LAST_TARGET_UPDATE_TS": "constants",
    "LEARNER_UPDATE_SKIPPED_EMPTY_BATCH_LIFETIME": "constants",
    "LEARNER_RESULTS": "constants",
    "LR_KEY": "constants",
    "MODULE_TRAIN_BATCH_SIZE_MEAN": "constants",
    "NUM_ENV_STEPS_SAMPLED": "constants",
    "NUM_ENV_STEPS_SAMPLED_LIFETIME": "constants",
    "NUM_ENV_STEPS_TRAINED": "constants",
    "NUM_ENV_STEPS_TRAINED_LIFETIME": "constants",
    "NUM_EPISODES": "constants",
    "NUM_EPISODES_LIFETIME": "constants",
    "NUM_MODULE_STEPS_TRAINED": "constants",
    "NUM_MODULE_STEPS_TRAINED_LIFETIME": "constants",
    "NUM_NON_TRAINABLE_PARAMETERS": "constants",
    "NUM_TARGET_UPDATES": "constants",
    "NUM_TRAINABLE_PARAMETERS": "constants",
    "POLICY_LOSS_KEY": "constants",
    "TD_ERROR_KEY": "constants",
    "TOTAL_LOSS_KEY": "constants",
    "VF_LOSS_KEY": "constants",
    "WEIGHTS_SEQ_NO": "constants",
    "CheckpointError": "errors",
    "LostDataError": "errors",
    "NonFiniteUpdateError": "errors",
    "ExportError": "errors",
    "TFLearnerError": "errors",
    # Algorithms.
    "Algorithm": "algorithms.algorithm",
    "BC": "algorithms.bc",
    "BCConfig": "algorithms.bc",
    "BCTfLearner": "algorithms.bc",
    "DQN": "algorithms.dqn",
    "DQNConfig": "algorithms.dqn",
    "DQNTfLearner": "algorithms.dqn",
    "EvaluationResult": "algorithms.algorithm",
    "IMPALA": "algorithms.impala",
    "IMPALAConfig": "algorithms.impala",
    "IMPALATfLearner": "algorithms.impala",
    "MARWIL": "algorithms.marwil",
    "MARWILConfig": "algorithms.marwil",
    "MARWILTfLearner": "algorithms.marwil",
    "PPO": "algorithms.ppo",
    "PPOConfig": "algorithms.ppo",
    "PPOTfLearner": "algorithms.ppo",
    "SAC": "algorithms.sac",
    "SACConfig": "algorithms.sac",
    "SACTfLearner": "algorithms.sac",
    # Settings.
    "AlgorithmConfig": "config",
    "DefaultModelConfig": "modules.default_model_config",
    "DQNCatalog": "modules.dqn",
    "DQNModelConfig": "modules.dqn",
    "DQNTfRLModule": "modules.dqn",
    "SACCatalog": "modules.sac",
    "SACModelConfig": "modules.sac",
    "SACTfRLModule": "modules.sac",
    # Where weights change.
    "Learner": "learner.learner",
    "LearnerGroup": "distributed.learner_group",
    "OffPolicyTfLearner": "learner.off_policy_learner",
    "TfLearner": "learner.tf_learner",
    # What acts and learns.
    "BCTfRLModule": "modules.actor_critic",
    "InferenceOnlyAPI": "modules.apis",
    "MultiRLModule": "modules.rl_module",
    "MultiRLModuleSpec": "modules.rl_module_spec",
    "NumpyPolicy": "modules.numpy_policy",
    "PPOCatalog": "modules.catalog",
    "PPOTfRLModule": "modules.actor_critic",
    "QNetAPI": "modules.apis",
    "RLModule": "modules.rl_module",
    "RLModuleSpec": "modules.rl_module_spec",
    "SelfSupervisedLossAPI": "modules.apis",
    "TargetNetworkAPI": "modules.apis",
    "TfRLModule": "modules.tf_rl_module",
    "ValueFunctionAPI": "modules.apis",
    "make_target_network": "modules.target_networks",
    "update_target_network": "modules.target_networks",
    # How episodes become batches, and outputs become actions.
    "AddColumnsFromEpisodesToTrainBatch": "connectors.episode_columns",
    "AddNextObservationsFromEpisodesToTrainBatch": "connectors.episode_columns",
    "AddObservationsFromEpisodesToBatch": "connectors.episode_columns",
    "AddOneTsToEpisodesAndTruncate": "connectors.episode_columns",
    "AddStatesFromEpisodesToBatch": "connectors.states",
    "AddTimeDimToBatchAndZeroPad": "connectors.states",
    "AgentToModuleMapping": "connectors.batching",
    "BatchIndividualItems": "connectors.batching",
    "ConnectorV2": "connectors.connector",
    "EnvToModulePipeline": "connectors.pipeline",
    "FrameStacking": "connectors.frame_stacking",
    "GeneralAdvantageEstimation": "connectors.gae",
    "LearnerConnectorPipeline": "connectors.pipeline",
    "MeanStdFilter": "connectors.observations",
    "ModuleToEnvPipeline": "connectors.pipeline",
    "tensor_rule_of": "connectors.tensor_forms",
    "NStepTransitions": "connectors.n_step",
    "PrevActionsPrevRewards": "connectors.prev_actions_prev_rewards",
    # Where experience is made, and what flows.
    "EnvRunner": "env.env_runner",
    "EpisodeReplayBuffer": "data.episode_replay_buffer",
    "MiniBatchCyclicIterator": "data.iterators",
    "MiniBatchDummyIterator": "data.iterators",
    "MultiAgentBatch": "data.sample_batch",
    "MultiAgentEpisode": "data.multi_agent_episode",
    "PrioritizedEpisodeReplayBuffer": "data.prioritized_episode_replay_buffer",
    "SampleBatch": "data.sample_batch",
    "ShardBatchIterator": "data.iterators",
    "ShardEpisodesIterator": "data.iterators",
    "ShardObjectRefIterator": "data.iterators",
    "RunnerSettings": "env.runner_settings",
    "SingleAgentEnvRunner": "env.single_agent_env_runner",
    "SingleAgentEpisode": "data.single_agent_episode",
    # What is saved, and rebuilt from files.
    "BackgroundSaver": "checkpoint.background",
    "CheckpointCallback": "reporting.checkpoint_callback",
    "CheckpointDirectory": "checkpoint.directory",
    "Checkpointable": "checkpoint.checkpointable",
    "RestoreReport": "checkpoint.restoring",
    "register_builder": "checkpoint.builders",
    "register_config": "settings.settings",
    # Policies that run elsewhere.
    "ExportReport": "export.report",
    # What is measured and shown.
    "History": "reporting.history",
    "MetricsLogger": "metrics",
    "Scheduler": "schedule",
    "Stats": "stats",
    # Submodules by name.
    "testing": "testing",
}

__version__ = "0.1.0"
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_PUBLIC[name]}")
    value = module if name == _PUBLIC[name] else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
