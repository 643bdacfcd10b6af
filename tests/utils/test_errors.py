import pytest

from wfvae_toolkit.checkpoints import CheckpointError
from wfvae_toolkit.datasets.bad_files import TooManyBadFiles
from wfvae_toolkit.models.perceptual import PerceptualWeightsMissing
from wfvae_toolkit.utils.distributed import LaunchError
from wfvae_toolkit.utils.errors import MissingFile, SettingError, UnknownName, UnknownSetting, UserError
from wfvae_toolkit.utils.options import friendly_errors

ERRORS = {
    SettingError: ValueError, UnknownSetting: TypeError, UnknownName: KeyError, MissingFile: FileNotFoundError,
    CheckpointError: RuntimeError, TooManyBadFiles: RuntimeError, LaunchError: RuntimeError,
    PerceptualWeightsMissing: FileNotFoundError}


@pytest.mark.parametrize(('error', 'builtin'), ERRORS.items(), ids=lambda cls: cls.__name__)
def test_user_errors_are_built_in_ones_whose_message_ends_a_tool(error, builtin):
    assert issubclass(error, builtin)
    with pytest.raises(SystemExit) as exit_, friendly_errors():
        raise error("no 'x'; there is 'y'")
    assert exit_.value.code == "error: no 'x'; there is 'y'"


@pytest.mark.parametrize('bug', [ValueError, KeyError, TypeError, RuntimeError, FileNotFoundError])
def test_anything_else_passes_with_its_traceback(bug):
    with pytest.raises(bug, match='a bug'), friendly_errors():
        raise bug('a bug')


def test_a_helper_that_ends_the_program_by_itself_is_left_alone():
    with pytest.raises(SystemExit, match='3'), friendly_errors():
        raise SystemExit(3)


def test_base_is_raised_as_one_of_its_kinds():
    assert all(issubclass(error, UserError) for error in ERRORS)
