import pytest
import torch
from torch import nn

from wfvae_toolkit.losses import Loss
from wfvae_toolkit.training import TurnOptimizers

ADAMW = dict(optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.1))
SGD = dict(optimizer=dict(type='SGD', lr=4e-3))


class Learnable(Loss):
    def __init__(self, weight=1.0):
        super().__init__(weight)
        self.bias = nn.Parameter(torch.tensor(1.0))

    def forward(self, step):
        return step.reconstruction.mean() * self.bias


def parameters(wrapper):
    return {id(p) for group in wrapper.param_groups for p in group['params']}


def test_one_optimizer_a_turn(make_model):
    model = make_model()
    wrappers = TurnOptimizers(dict(constructor='TurnOptimizers', autoencoder=ADAMW, discriminator=SGD))(model)
    assert set(wrappers.keys()) == {'autoencoder', 'discriminator'}
    for turn, wrapper in wrappers.items():
        assert parameters(wrapper) == {id(p) for p in getattr(model, turn).parameters()}
    assert isinstance(wrappers['autoencoder'].optimizer, torch.optim.AdamW)
    assert isinstance(wrappers['discriminator'].optimizer, torch.optim.SGD)
    # Schedules multiply these.
    assert [wrapper.param_groups[0]['initial_lr'] for wrapper in wrappers.values()] == [1e-3, 4e-3]


def test_learnable_losses_train_with_the_autoencoder(make_model):
    model = make_model(losses=dict(pixel=dict(type='L1Loss'), learnable=dict(type=Learnable)))
    wrappers = TurnOptimizers(dict(autoencoder=ADAMW, discriminator=SGD))(model)
    assert list(wrappers.keys()) == ['autoencoder']  # no adversarial row: nothing to train beside it
    expected = {id(p) for network in (model.autoencoder, model.losses) for p in network.parameters()}
    assert parameters(wrappers['autoencoder']) == expected
    assert all(group['initial_lr'] == 1e-3 for group in wrappers['autoencoder'].param_groups)


def test_clipping_is_each_optimizers_own(make_model):
    model = make_model()
    wrappers = TurnOptimizers(dict(autoencoder={**SGD, 'clip_grad': dict(max_norm=2.0)}, discriminator=SGD))(model)
    norms = {}
    for turn, wrapper in wrappers.items():
        network = getattr(model, turn)
        for p in network.parameters():
            p.grad = torch.ones_like(p)
        count = sum(p.numel() for p in network.parameters())
        before = torch.cat([p.detach().flatten() for p in network.parameters()])
        gradient_norm = wrapper.gradient_norm()
        wrapper.finish(apply=True)
        change = torch.cat([p.detach().flatten() for p in network.parameters()]) - before
        norms[turn] = change.norm().item() / 4e-3, count**0.5, gradient_norm.item()
    assert norms['autoencoder'][0] == pytest.approx(2.0, rel=1e-3)
    assert norms['discriminator'][0] == pytest.approx(norms['discriminator'][1], rel=1e-3)
    for _, plain, measured in norms.values():
        assert measured == pytest.approx(plain)


def test_paramwise_settings(make_model):
    row = {**ADAMW, 'paramwise_cfg': dict(norm_decay_mult=0.0, bias_decay_mult=0.0)}
    wrapper = TurnOptimizers(dict(autoencoder=row, discriminator=SGD))(make_model())['autoencoder']
    assert {group['weight_decay'] for group in wrapper.param_groups} == {0.0, 0.1}


def test_rows_are_the_turns(make_model):
    with pytest.raises(ValueError, match='generator: the rows are autoencoder and discriminator'):
        TurnOptimizers(dict(generator=ADAMW, discriminator=SGD))
    for row in ({}, dict(discriminator=None)):
        with pytest.raises(ValueError, match='discriminator: missing: use dict'):
            TurnOptimizers(dict(autoencoder=ADAMW, **row))(make_model())
