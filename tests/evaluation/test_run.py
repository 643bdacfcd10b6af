import pytest

from tests.evaluation.loaders import Loader
from wfvae_toolkit.evaluation import NothingScored, ReconstructionEvaluator, evaluate
from wfvae_toolkit.evaluation.run import check_scored
from wfvae_toolkit.utils.errors import NotFinite


def test_weights_that_give_no_numbers_are_named_before_anything_is_shown(make_model, make_images, make_batch):
    good, bad = make_model().autoencoder, make_model().autoencoder
    bad.decoder.conv_out.weight.data[:] = 3e38
    shown, loader = [], Loader(make_batch(make_images(2, 32, 32)))
    evaluator = ReconstructionEvaluator({'PSNR': dict(type='PSNR')})
    with pytest.raises(NotFinite, match=r'^0\.png \(and 1 more .*\): the decoder of the raw weights gave NaN'):
        evaluate({'': good, 'raw': bad}, loader, evaluator, 'cpu', on_batch=lambda *batch: shown.append(batch))
    assert not shown


def test_sides_that_the_factor_does_not_divide_are_scored_on_their_own_pixels(make_model, make_images, make_batch):
    seen = []
    evaluator = ReconstructionEvaluator({'PSNR': dict(type='PSNR')})
    summary = evaluate({'': make_model().autoencoder}, Loader(make_batch(make_images(2, 21, 30))), evaluator, 'cpu',
                       on_batch=lambda number, batch, target, made: seen.append((target.shape, made[''].shape)))
    assert seen == [((2, 3, 21, 30), (2, 3, 21, 30))]
    assert summary.protocol['sizes'].endswith('(2 of 2 pictures)')


def test_a_picture_that_a_metric_cannot_score_is_listed(make_model, make_images, make_batch):
    evaluator = ReconstructionEvaluator({'SSIM': dict(type='SSIM')})
    summary = evaluate({'': make_model().autoencoder}, Loader(make_batch(make_images(1, 8, 8))), evaluator, 'cpu')
    assert [bad['path'] for bad in summary.skipped] == ['0.png']
    with pytest.raises(NothingScored, match='none of the 1 pictures could be scored; 0.png: 8x8 px'):
        check_scored(summary)
