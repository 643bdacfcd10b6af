from types import SimpleNamespace

import pytest

from wfvae_toolkit.hooks import DiscriminatorWarmupHook


@pytest.mark.parametrize('start_iter', [0, 3])
def test_turns_follow_from_the_iteration(make_model, start_iter):
    model = make_model()
    hook, turns = DiscriminatorWarmupHook(start_iter), []
    for iteration in range(6):
        hook.before_train_iter(SimpleNamespace(model=model), iteration)
        turns.append(model.turn(iteration)[0])
    assert ''.join(turns) == {0: 'adadad', 3: 'aaadad'}[start_iter]
    # No counter: a resumed run, or one that goes back, sees the same.
    hook.before_train_iter(SimpleNamespace(model=model), 1)
    assert model.discriminator_active == (start_iter == 0)


def test_start_is_checked():
    with pytest.raises(ValueError, match='start_iter=-1; 0 or more'):
        DiscriminatorWarmupHook(-1)
