"""The training model with its two turns, the loop over updates, and the Runner around them."""

from .loops import EvaluationLoop, UpdateLoop
from .model import AutoencoderTraining
from .optimizers import TurnOptimizers
from .preprocessor import ImagePreprocessor
from .runner import TrainingRunner

__all__ = ['AutoencoderTraining', 'EvaluationLoop', 'ImagePreprocessor', 'TrainingRunner', 'TurnOptimizers',
           'UpdateLoop']
