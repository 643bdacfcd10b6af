"""What happens around the updates: averages, schedules, files, logs and pictures."""

from .checkpoint import CheckpointHook
from .collapse import CollapseHook
from .curves import LossCurvesHook
from .discriminator_warmup import DiscriminatorWarmupHook
from .early_stopping import EarlyStoppingHook
from .ema import EMAHook
from .flat_fields import FlatFieldHook
from .header import RunHeaderHook
from .learning_rate import LearningRateHook, ParamSchedulerHook
from .logger import LoggerHook
from .memory import MemoryForecastHook
from .pictures import PicturesHook
from .report import ReportHook

__all__ = ['CheckpointHook', 'CollapseHook', 'DiscriminatorWarmupHook', 'EMAHook', 'EarlyStoppingHook', 'FlatFieldHook',
           'LearningRateHook', 'LoggerHook', 'LossCurvesHook', 'MemoryForecastHook', 'ParamSchedulerHook',
           'PicturesHook', 'ReportHook', 'RunHeaderHook']
