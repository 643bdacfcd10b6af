"""File formats of trained models: reading any of them, writing, converting, merging."""

from .earlier import convert_earlier_state
from .export import EXPORTERS, export_model
from .merge import merge_models
from .names import SHIPPED, find_model
from .native import (
    LAST,
    find_resumable,
    list_checkpoints,
    load_training_checkpoint,
    plain_data,
    save_training_checkpoint,
)
from .read import read_model, read_model_file
from .to_diffusers import make_pipeline_portable
from .trained import CheckpointError, ModelFile, TrainedModel, build_autoencoder
from .write_statistics import check_writable, fingerprint, write_statistics

__all__ = ['EXPORTERS', 'LAST', 'SHIPPED', 'CheckpointError', 'ModelFile', 'TrainedModel', 'build_autoencoder',
           'check_writable', 'convert_earlier_state', 'export_model', 'find_model', 'find_resumable', 'fingerprint',
           'list_checkpoints', 'load_training_checkpoint', 'make_pipeline_portable', 'merge_models', 'plain_data',
           'read_model', 'read_model_file', 'save_training_checkpoint', 'write_statistics']
