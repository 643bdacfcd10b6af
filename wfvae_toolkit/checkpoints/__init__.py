"""File formats of trained models and the way back to earlier ones."""

from .earlier import convert_earlier_state
from .native import (
    LAST,
    CheckpointError,
    build_autoencoder,
    build_from_checkpoint,
    find_resumable,
    list_checkpoints,
    load_autoencoder,
    load_training_checkpoint,
    plain_data,
    resolve_checkpoint,
    save_training_checkpoint,
)
from .statistics import fingerprint, write_statistics
from .trained import TrainedModel, read_model

__all__ = ['LAST', 'CheckpointError', 'TrainedModel', 'build_autoencoder', 'build_from_checkpoint',
           'convert_earlier_state', 'find_resumable', 'fingerprint', 'list_checkpoints', 'load_autoencoder',
           'load_training_checkpoint', 'plain_data', 'read_model', 'resolve_checkpoint', 'save_training_checkpoint',
           'write_statistics']
