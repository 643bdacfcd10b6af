import copy

import pytest
import torch
from mmengine.registry import OPTIMIZERS
from torch import nn

from wfvae_toolkit.checkpoints import CheckpointError
from wfvae_toolkit.losses import Loss
from wfvae_toolkit.training import TurnOptimizers
from wfvae_toolkit.utils.errors import UnknownSetting

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


# what a checkpoint gives back

def both(model, row, logvar_lr=1e-2):
    return TurnOptimizers(dict(autoencoder=row, discriminator=ADAMW, logvar_lr=logvar_lr))(model)['autoencoder']


def stepped(wrapper, factor=1.0):
    """One step on gradients of one, at ``factor`` of the configured rates."""
    for group in wrapper.param_groups:
        group['lr'] = group['initial_lr'] * factor
        for parameter in group['params']:
            parameter.grad = torch.ones_like(parameter)
    wrapper.optimizer.step()
    wrapper.optimizer.zero_grad()
    return copy.deepcopy(wrapper.state_dict())


NEW = dict(optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.3, betas=[0.5, 0.9]))
NEW_PARAMWISE = {**NEW, 'paramwise_cfg': dict(norm_decay_mult=0.0, custom_keys={'encoder': dict(lr_mult=0.1)})}


@pytest.mark.parametrize('before', [ADAMW, {**ADAMW, 'paramwise_cfg': dict(bias_decay_mult=0.0)}],
                         ids=['plain', 'paramwise'])
@pytest.mark.parametrize('after', [NEW, NEW_PARAMWISE], ids=['to plain', 'to paramwise'])
@pytest.mark.parametrize('configured', [True, False], ids=['', 'an older checkpoint'])
def test_settings_come_from_the_config_and_moments_from_the_checkpoint(make_model, before, after, configured):
    model = make_model(learn_logvar=True)
    state = stepped(both(model, before), factor=0.5)
    if not configured:
        del state['configured']
    moments = {number: kept['exp_avg'].clone() for number, kept in state['state'].items()}
    fresh, wrapper = both(model, after, logvar_lr=3e-3), both(model, after, logvar_lr=3e-3)
    values = [parameter.detach().clone() for parameter in model.parameters()]
    wrapper.load_state_dict(state)
    assert all(torch.equal(*pair) for pair in zip(values, model.parameters(), strict=True))
    for group, expected in zip(wrapper.param_groups, fresh.param_groups, strict=True):
        # The schedule stood at half of the rate.
        assert group['lr'] == pytest.approx(expected['lr'] / 2)
        for name in ('initial_lr', 'weight_decay', 'betas', 'eps'):
            assert group[name] == expected[name]
    assert wrapper.param_groups[-1]['initial_lr'] == 3e-3
    kept = [wrapper.optimizer.state[parameter]['exp_avg'] for group in wrapper.param_groups
            for parameter in group['params']]
    assert len(kept) == len(moments)
    assert all(torch.equal(*pair) for pair in zip(kept, moments.values(), strict=True))


def test_an_unchanged_config_restores_every_value(make_model):
    """A resumed run also keeps settings that a hook has changed."""
    model = make_model(learn_logvar=True)
    wrapper = both(model, ADAMW)
    wrapper.param_groups[0].update(weight_decay=0.05, noted_by_a_hook=3)
    state = stepped(wrapper, factor=0.7)
    again = both(model, ADAMW)
    again.load_state_dict(state)
    assert again.state_dict()['param_groups'] == state['param_groups']


def test_changes_of_a_group_are_listed(make_model):
    model = make_model()
    state = stepped(both(model, ADAMW), factor=0.5)
    assert {name: (before, now if name != 'betas' else tuple(now))  # a list in older versions of torch
            for name, before, now in both(model, NEW).changes(state)} == {
        'lr': (1e-3, 1e-4), 'betas': ((0.9, 0.999), (0.5, 0.9)), 'weight_decay': (0.1, 0.3)}
    assert both(model, ADAMW).changes(state) == []


@pytest.mark.parametrize(('optimizer', 'kept'), [
    (dict(type='SGD', lr=1e-3, momentum=0.9), 'SGD as the config has it keeps momentum_buffer'),
    (dict(type='SGD', lr=1e-3), 'SGD as the config has it keeps nothing'),
    (dict(type='AdamW', lr=1e-3, amsgrad=True), 'AdamW as the config has it keeps exp_avg, exp_avg_sq, max_exp_avg_sq'),
])
def test_another_optimizers_state_is_refused(make_model, optimizer, kept):
    model = make_model()
    state = stepped(both(model, ADAMW))
    if 'momentum' not in optimizer:
        state.pop('configured')
    with pytest.raises(CheckpointError, match=f'holds exp_avg, exp_avg_sq, step of each .* {kept}.*--resume-drop opt'):
        both(model, dict(optimizer=optimizer)).load_state_dict(state)


def test_another_number_of_parameters_is_refused(make_model):
    state = stepped(both(make_model(learn_logvar=True), ADAMW))
    with pytest.raises(CheckpointError, match='parameters, the config trains'):
        both(make_model(), ADAMW).load_state_dict(state)


def test_paramwise_rules_for_norms_are_for_ours_too(make_model):
    rules = dict(norm_decay_mult=0.0, bias_lr_mult=2.0, custom_keys={'conv_out': dict(lr_mult=0.5, decay_mult=3.0)})
    model = make_model(autoencoder=dict(norm=dict(type='LayerNorm2d')))
    row = {**ADAMW, 'paramwise_cfg': rules}
    wrapper = TurnOptimizers(dict(autoencoder=row, discriminator=SGD))(model)['autoencoder']
    settings = {id(group['params'][0]): (group['initial_lr'], group['weight_decay']) for group in wrapper.param_groups}
    kinds = set()
    for place, module in model.autoencoder.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            norm, full_name = 'Norm' in type(module).__name__, f'{place}.{name}'
            expected = (5e-4, 0.3) if 'conv_out' in full_name else (1e-3, 0.0) if norm else (
                (2e-3, 0.1) if name == 'bias' else (1e-3, 0.1))
            assert settings[id(parameter)] == pytest.approx(expected), full_name
            kinds.add(expected)
    assert len(kinds) == 4


@pytest.mark.parametrize(('rules', 'message'), [
    (dict(custom_keys={'encodr': dict(lr_mult=0.1)}), "'encodr' occurs in no parameter name"),
    (dict(norm_decay=0.0), 'norm_decay.*use a dict of .*norm_decay_mult')])
def test_paramwise_rules_that_touch_nothing_are_refused(make_model, rules, message):
    with pytest.raises(ValueError, match=message):
        TurnOptimizers(dict(autoencoder={**ADAMW, 'paramwise_cfg': rules}, discriminator=SGD))(make_model())


def test_clip_grad_as_mmengine_writes_it(make_model):
    row = {**SGD, 'clip_grad': dict(max_norm=1.0, norm_type=2)}
    wrapper = TurnOptimizers(dict(autoencoder=row, discriminator=SGD))(make_model())['autoencoder']
    parameters = wrapper.param_groups[0]['params']
    before = [p.detach().clone() for p in parameters]
    for p in parameters:
        p.grad = torch.ones_like(p)
    wrapper.gradient_norm()
    wrapper.finish(apply=True)
    moved = sum((p.detach() - old).square().sum() for p, old in zip(parameters, before, strict=True)).sqrt()
    assert moved.item() == pytest.approx(4e-3, rel=1e-3)
    with pytest.raises(ValueError, match='a limit of the L2 norm'):
        TurnOptimizers(dict(autoencoder={**SGD, 'clip_grad': dict(max_norm=1.0, norm_type=1)},
                            discriminator=SGD))(make_model())


@OPTIMIZERS.register_module()
class TakesAnyName(torch.optim.SGD):
    """As optimizers of other packages do: names that it does not know are lost."""

    def __init__(self, params, lr=0.1, **kwargs):
        super().__init__(params, lr=lr, momentum=kwargs.get('momentum', 0.0))


def test_a_name_that_the_optimizer_does_not_read_is_refused(make_model):
    def build(**settings):
        row = dict(optimizer=dict(type='TakesAnyName', **settings))
        return TurnOptimizers(dict(autoencoder=row, discriminator=row))(make_model())
    assert build(lr=0.2, momentum=0.5)['autoencoder'].optimizer.defaults['momentum'] == 0.5
    with pytest.raises(UnknownSetting, match=r"autoencoder\.optimizer: .* does not read 'momentun'; .*'momentum'"):
        build(lr=0.2, momentun=0.5)
