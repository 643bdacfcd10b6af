from types import SimpleNamespace

import pytest

from wfvae_toolkit.hooks import DiscriminatorWarmupHook


@pytest.mark.parametrize('start_iter', [0, 3])
def test_turns_follow_from_the_iteration(make_model, start_iter):
    model = make_model()
    hook, turns = DiscriminatorWarmupHook(start_iter), []
    for iteration in range(6):
        hook.before_train_iter(SimpleNamespace(model=model), iteration)
        turns.append(model.turns_of(iteration)[0][0])
    assert ''.join(turns) == {0: 'adadad', 3: 'aaadad'}[start_iter]
    # No counter: a resumed run, or one that goes back, sees the same.
    hook.before_train_iter(SimpleNamespace(model=model), 1)
    assert model.discriminator_started == model.discriminator_trains == (start_iter == 0)


def test_the_discriminator_may_train_while_the_autoencoder_waits(make_model):
    model, states = make_model(), []
    hook = DiscriminatorWarmupHook(start_iter=3, train_iter=1)
    for iteration in range(5):
        hook.before_train_iter(SimpleNamespace(model=model), iteration)
        states.append((model.turns_of(iteration)[0][0], model.discriminator_started))
    assert states == [('a', False), ('d', False), ('a', False), ('d', True), ('a', True)]


def test_start_is_checked():
    with pytest.raises(ValueError, match='start_iter=-1; 0 or more'):
        DiscriminatorWarmupHook(-1)
    with pytest.raises(ValueError, match='train_iter=4; use 0 to start_iter=3'):
        DiscriminatorWarmupHook(3, train_iter=4)
