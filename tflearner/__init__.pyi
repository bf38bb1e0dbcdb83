"""The public names, for type checkers; `__init__.py` loads them when used."""

from tflearner import testing as testing
from tflearner.algorithms.algorithm import Algorithm as Algorithm
from tflearner.algorithms.algorithm import EvaluationResult as EvaluationResult
from tflearner.algorithms.bc import BC as BC
from tflearner.algorithms.bc import BCConfig as BCConfig
from tflearner.algorithms.bc import BCTfLearner as BCTfLearner
from tflearner.algorithms.dqn import DQN as DQN
from tflearner.algorithms.dqn import DQNConfig as DQNConfig
from tflearner.algorithms.dqn import DQNTfLearner as DQNTfLearner
from tflearner.algorithms.impala import IMPALA as IMPALA
from tflearner.algorithms.impala import IMPALAConfig as IMPALAConfig
from tflearner.algorithms.impala import IMPALATfLearner as IMPALATfLearner
from tflearner.algorithms.marwil import MARWIL as MARWIL
from tflearner.algorithms.marwil import MARWILConfig as MARWILConfig
from tflearner.algorithms.marwil import MARWILTfLearner as MARWILTfLearner
from tflearner.algorithms.ppo import PPO as PPO
from tflearner.algorithms.ppo import PPOConfig as PPOConfig
from tflearner.algorithms.ppo import PPOTfLearner as PPOTfLearner
from tflearner.algorithms.sac import SAC as SAC
from tflearner.algorithms.sac import SACConfig as SACConfig
from tflearner.algorithms.sac import SACTfLearner as SACTfLearner
from tflearner.checkpoint.background import BackgroundSaver as BackgroundSaver
from tflearner.checkpoint.builders import register_builder as register_builder
from tflearner.checkpoint.checkpointable import Checkpointable as Checkpointable
from tflearner.checkpoint.directory import CheckpointDirectory as CheckpointDirectory
from tflearner.checkpoint.restoring import RestoreReport as RestoreReport
from tflearner.columns import Columns as Columns
from tflearner.config import AlgorithmConfig as AlgorithmConfig
from tflearner.connectors.batching import AgentToModuleMapping as AgentToModuleMapping
from tflearner.connectors.batching import BatchIndividualItems as BatchIndividualItems
from tflearner.connectors.connector import ConnectorV2 as ConnectorV2
from tflearner.connectors.episode_columns import (
    AddColumnsFromEpisodesToTrainBatch as AddColumnsFromEpisodesToTrainBatch,
)
from tflearner.connectors.episode_columns import (
    AddNextObservationsFromEpisodesToTrainBatch as AddNextObservationsFromEpisodesToTrainBatch,
)
from tflearner.connectors.episode_columns import (
    AddObservationsFromEpisodesToBatch as AddObservationsFromEpisodesToBatch,
)
from tflearner.connectors.episode_columns import (
    AddOneTsToEpisodesAndTruncate as AddOneTsToEpisodesAndTruncate,
)
from tflearner.connectors.frame_stacking import FrameStacking as FrameStacking
from tflearner.connectors.gae import (
    GeneralAdvantageEstimation as GeneralAdvantageEstimation,
)
from tflearner.connectors.n_step import NStepTransitions as NStepTransitions
from tflearner.connectors.observations import MeanStdFilter as MeanStdFilter
from tflearner.connectors.pipeline import EnvToModulePipeline as EnvToModulePipeline
from tflearner.connectors.pipeline import (
    LearnerConnectorPipeline as LearnerConnectorPipeline,
)
from tflearner.connectors.pipeline import ModuleToEnvPipeline as ModuleToEnvPipeline
from tflearner.connectors.prev_actions_prev_rewards import (
    PrevActionsPrevRewards as PrevActionsPrevRewards,
)
from tflearner.connectors.states import (
    AddStatesFromEpisodesToBatch as AddStatesFromEpisodesToBatch,
)
from tflearner.connectors.states import (
    AddTimeDimToBatchAndZeroPad as AddTimeDimToBatchAndZeroPad,
)
from tflearner.connectors.tensor_forms import tensor_rule_of as tensor_rule_of
from tflearner.constants import ALL_MODULES as ALL_MODULES
from tflearner.constants import COMPONENT_ENV_RUNNER as COMPONENT_ENV_RUNNER
from tflearner.constants import (
    COMPONENT_ENV_TO_MODULE_CONNECTOR as COMPONENT_ENV_TO_MODULE_CONNECTOR,
)
from tflearner.constants import COMPONENT_LEARNER as COMPONENT_LEARNER
from tflearner.constants import COMPONENT_LEARNER_GROUP as COMPONENT_LEARNER_GROUP
from tflearner.constants import COMPONENT_METRICS_LOGGER as COMPONENT_METRICS_LOGGER
from tflearner.constants import (
    COMPONENT_MODULE_TO_ENV_CONNECTOR as COMPONENT_MODULE_TO_ENV_CONNECTOR,
)
from tflearner.constants import COMPONENT_OPTIMIZER as COMPONENT_OPTIMIZER
from tflearner.constants import COMPONENT_REPLAY_BUFFER as COMPONENT_REPLAY_BUFFER
from tflearner.constants import COMPONENT_RL_MODULE as COMPONENT_RL_MODULE
from tflearner.constants import DATASET_NUM_ITERS_TRAINED as DATASET_NUM_ITERS_TRAINED
from tflearner.constants import (
    DATASET_NUM_ITERS_TRAINED_LIFETIME as DATASET_NUM_ITERS_TRAINED_LIFETIME,
)
from tflearner.constants import DEFAULT_MODULE_ID as DEFAULT_MODULE_ID
from tflearner.constants import DEFAULT_OPTIMIZER as DEFAULT_OPTIMIZER
from tflearner.constants import (
    DIFF_NUM_GRAD_UPDATES_VS_SAMPLER_POLICY as DIFF_NUM_GRAD_UPDATES_VS_SAMPLER_POLICY,
)
from tflearner.constants import ENTROPY_KEY as ENTROPY_KEY
from tflearner.constants import ENV_RUNNER_RESULTS as ENV_RUNNER_RESULTS
from tflearner.constants import EPISODE_LEN_MEAN as EPISODE_LEN_MEAN
from tflearner.constants import EPISODE_RETURN_MEAN as EPISODE_RETURN_MEAN
from tflearner.constants import INPUT_ENV_SINGLE_SPACES as INPUT_ENV_SINGLE_SPACES
from tflearner.constants import LAST_TARGET_UPDATE_TS as LAST_TARGET_UPDATE_TS
from tflearner.constants import LEARNER_RESULTS as LEARNER_RESULTS
from tflearner.constants import (
    LEARNER_UPDATE_SKIPPED_EMPTY_BATCH_LIFETIME as LEARNER_UPDATE_SKIPPED_EMPTY_BATCH_LIFETIME,
)
from tflearner.constants import LR_KEY as LR_KEY
from tflearner.constants import (
    MODULE_TRAIN_BATCH_SIZE_MEAN as MODULE_TRAIN_BATCH_SIZE_MEAN,
)
from tflearner.constants import NUM_ENV_STEPS_SAMPLED as NUM_ENV_STEPS_SAMPLED
from tflearner.constants import (
    NUM_ENV_STEPS_SAMPLED_LIFETIME as NUM_ENV_STEPS_SAMPLED_LIFETIME,
)
from tflearner.constants import NUM_ENV_STEPS_TRAINED as NUM_ENV_STEPS_TRAINED
from tflearner.constants import (
    NUM_ENV_STEPS_TRAINED_LIFETIME as NUM_ENV_STEPS_TRAINED_LIFETIME,
)
from tflearner.constants import NUM_EPISODES as NUM_EPISODES
from tflearner.constants import NUM_EPISODES_LIFETIME as NUM_EPISODES_LIFETIME
from tflearner.constants import NUM_MODULE_STEPS_TRAINED as NUM_MODULE_STEPS_TRAINED
from tflearner.constants import (
    NUM_MODULE_STEPS_TRAINED_LIFETIME as NUM_MODULE_STEPS_TRAINED_LIFETIME,
)
from tflearner.constants import (
    NUM_NON_TRAINABLE_PARAMETERS as NUM_NON_TRAINABLE_PARAMETERS,
)
from tflearner.constants import NUM_TARGET_UPDATES as NUM_TARGET_UPDATES
from tflearner.constants import NUM_TRAINABLE_PARAMETERS as NUM_TRAINABLE_PARAMETERS
from tflearner.constants import POLICY_LOSS_KEY as POLICY_LOSS_KEY
from tflearner.constants import TD_ERROR_KEY as TD_ERROR_KEY
from tflearner.constants import TOTAL_LOSS_KEY as TOTAL_LOSS_KEY
from tflearner.constants import VF_LOSS_KEY as VF_LOSS_KEY
from tflearner.constants import WEIGHTS_SEQ_NO as WEIGHTS_SEQ_NO
from tflearner.data.episode_replay_buffer import (
    EpisodeReplayBuffer as EpisodeReplayBuffer,
)
from tflearner.data.iterators import (
    MiniBatchCyclicIterator as MiniBatchCyclicIterator,
)
from tflearner.data.iterators import MiniBatchDummyIterator as MiniBatchDummyIterator
from tflearner.data.iterators import ShardBatchIterator as ShardBatchIterator
from tflearner.data.iterators import ShardEpisodesIterator as ShardEpisodesIterator
from tflearner.data.iterators import ShardObjectRefIterator as ShardObjectRefIterator
from tflearner.data.multi_agent_episode import MultiAgentEpisode as MultiAgentEpisode
from tflearner.data.prioritized_episode_replay_buffer import (
    PrioritizedEpisodeReplayBuffer as PrioritizedEpisodeReplayBuffer,
)
from tflearner.data.sample_batch import MultiAgentBatch as MultiAgentBatch
from tflearner.data.sample_batch import SampleBatch as SampleBatch
from tflearner.data.single_agent_episode import SingleAgentEpisode as SingleAgentEpisode
from tflearner.distributed.learner_group import LearnerGroup as LearnerGroup
from tflearner.env.env_runner import EnvRunner as EnvRunner
from tflearner.env.runner_settings import RunnerSettings as RunnerSettings
from tflearner.env.single_agent_env_runner import (
    SingleAgentEnvRunner as SingleAgentEnvRunner,
)
from tflearner.errors import CheckpointError as CheckpointError
from tflearner.errors import ExportError as ExportError
from tflearner.errors import LostDataError as LostDataError
from tflearner.errors import NonFiniteUpdateError as NonFiniteUpdateError
from tflearner.errors import TFLearnerError as TFLearnerError
from tflearner.export.report import ExportReport as ExportReport
from tflearner.learner.learner import Learner as Learner
from tflearner.learner.off_policy_learner import (
    OffPolicyTfLearner as OffPolicyTfLearner,
)
from tflearner.learner.tf_learner import TfLearner as TfLearner
from tflearner.metrics import MetricsLogger as MetricsLogger
from tflearner.modules.actor_critic import BCTfRLModule as BCTfRLModule
from tflearner.modules.actor_critic import PPOTfRLModule as PPOTfRLModule
from tflearner.modules.apis import InferenceOnlyAPI as InferenceOnlyAPI
from tflearner.modules.apis import QNetAPI as QNetAPI
from tflearner.modules.apis import SelfSupervisedLossAPI as SelfSupervisedLossAPI
from tflearner.modules.apis import TargetNetworkAPI as TargetNetworkAPI
from tflearner.modules.apis import ValueFunctionAPI as ValueFunctionAPI
from tflearner.modules.catalog import PPOCatalog as PPOCatalog
from tflearner.modules.default_model_config import (
    DefaultModelConfig as DefaultModelConfig,
)
from tflearner.modules.dqn import DQNCatalog as DQNCatalog
from tflearner.modules.dqn import DQNModelConfig as DQNModelConfig
from tflearner.modules.dqn import DQNTfRLModule as DQNTfRLModule
from tflearner.modules.numpy_policy import NumpyPolicy as NumpyPolicy
from tflearner.modules.rl_module import MultiRLModule as MultiRLModule
from tflearner.modules.rl_module import RLModule as RLModule
from tflearner.modules.rl_module_spec import MultiRLModuleSpec as MultiRLModuleSpec
from tflearner.modules.rl_module_spec import RLModuleSpec as RLModuleSpec
from tflearner.modules.sac import SACCatalog as SACCatalog
from tflearner.modules.sac import SACModelConfig as SACModelConfig
from tflearner.modules.sac import SACTfRLModule as SACTfRLModule
from tflearner.modules.target_networks import make_target_network as make_target_network
from tflearner.modules.target_networks import (
    update_target_network as update_target_network,
)
from tflearner.modules.tf_rl_module import TfRLModule as TfRLModule
from tflearner.reporting.checkpoint_callback import (
    CheckpointCallback as CheckpointCallback,
)
from tflearner.reporting.history import History as History
from tflearner.schedule import Scheduler as Scheduler
from tflearner.settings.settings import register_config as register_config
from tflearner.stats import Stats as Stats

__version__: str
