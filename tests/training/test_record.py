from pathlib import Path

from wfvae_toolkit.training.record import changes, of_autoencoder, plain


def test_changes_name_the_shortest_place():
    before = {'a.type': 'X', 'a.size': 1, 'rows.one.type': 'L', 'rows.one.weight': 2, 'rows.two': None, 'same': [1]}
    now = {'a.type': 'Y', 'a.width': 3, 'rows.one': None, 'rows.two.type': 'M', 'same': [1], 'new': None}
    assert sorted(changes(before, now)) == [
        ('a.size', 1, None), ('a.type', 'X', 'Y'), ('a.width', None, 3),
        ('rows.one', {'type': 'L', 'weight': 2}, None), ('rows.two', None, {'type': 'M'})]
    assert changes(before, before) == []


def test_autoencoders_are_compared_as_they_compute():
    first = of_autoencoder(dict(type='WFVAE2Image', widths=(8, 12, 16)))
    assert first == of_autoencoder(dict(type='WFVAE2Image', widths=[8, 12, 16], norm=dict(type='LayerNorm2d'),
                                        encoder_layers=[2, 2], decoder_widths=[8, 12, 16]))
    assert changes(first, of_autoencoder(dict(type='WFVAE2Image', widths=(8, 12, 16), norm=dict(
        type='LayerNorm2d', eps=1e-5)))) == [('model.autoencoder.norm.eps', 1e-6, 1e-5)]
    assert of_autoencoder(dict(type='some.package.Model', size=(1, 2))) == {
        'model.autoencoder.type': 'some.package.Model', 'model.autoencoder.size': [1, 2]}


def test_settings_become_plain():
    assert plain(dict(a=(1, 2.5), b=Path('x/y'), c=Path, d=None, e=[dict(f='g')])) == {
        'a': [1, 2.5], 'b': 'x/y', 'c': f'{Path.__module__}.Path', 'd': None, 'e': [{'f': 'g'}]}
