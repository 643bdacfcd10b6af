import pytest
import torch
import torch.nn.functional as F

from tests.helpers import noise
from wfvae_toolkit.losses import AdversarialLoss, DiscriminatorStep, R1Penalty
from wfvae_toolkit.models.discriminators import UNetDiscriminator


def build(seed=0, **settings):
    torch.manual_seed(seed)
    network = UNetDiscriminator(**{**dict(num_layers=2, width=4), **settings})
    with torch.no_grad():
        for _ in range(10):  # away from the random vectors that the power iteration starts with
            network(torch.zeros(1, 3, 32, 32))
    return network


def test_it_scores_every_pixel_and_the_image_at_any_size():
    for size in ((16, 16), (17, 30)):
        pixels, image = build()(noise(2, 3, *size))
        assert (pixels.shape, image.shape) == ((2, 1, *size), (2, 1, 1, 1))


def test_equals_the_plain_formulation():
    network, images = build(num_layers=1, norm='none'), noise(2, 3, 8, 8)

    def conv(layer, x):
        return F.conv2d(x, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2)

    def block(part, x):
        inner = conv(part.convs[0], F.leaky_relu(x, 0.2))
        return conv(part.convs[1], F.leaky_relu(inner, 0.2)) + conv(part.shortcut, x)

    stem = conv(network.stem, images)
    low = F.avg_pool2d(block(network.encoder[0], stem), 2)
    image = conv(network.image_score, F.leaky_relu(low, 0.2).mean((2, 3), keepdim=True))
    up = low.repeat_interleave(2, 2).repeat_interleave(2, 3)
    pixels = conv(network.pixel_score, F.leaky_relu(block(network.decoder[0], torch.cat([up, stem], 1)), 0.2))
    for found, expected in zip(network(images), (pixels, image), strict=True):
        torch.testing.assert_close(found, expected)


def test_the_objectives_are_half_of_the_paper_s_sums():
    """Equations 1 to 5: of the encoder's score of an image, and of the mean over the decoder's scores of its pixels."""
    network, real, fake = build().eval(), noise(2, 3, 8, 8), noise(2, 3, 8, 8, seed=1)
    (real_pixels, real_image), (fake_pixels, fake_image) = network(real), network(fake)
    sums = {}
    for name, real_scores, fake_scores in (('encoder', real_image, fake_image), ('decoder', real_pixels, fake_pixels)):
        log_of_d = torch.log(torch.sigmoid(real_scores)).flatten(1).mean(1).mean()
        log_of_rest = torch.log(1 - torch.sigmoid(fake_scores)).flatten(1).mean(1).mean()
        sums[name] = -log_of_d - log_of_rest
    row = AdversarialLoss(objective='vanilla')
    step = DiscriminatorStep(real, fake, network(real), network(fake), network)
    # The toolkit's objectives are also the mean over real and fake: another 1/2.
    assert row.discriminator_loss(step).item() == pytest.approx(sum(sums.values()).item() / 4, rel=1e-5)


def test_a_pixel_s_score_follows_its_surroundings_and_the_image_s_score_every_pixel():
    network, images = build(num_layers=1, norm='none').double(), noise(1, 3, 32, 32, dtype=torch.float64)
    images.requires_grad_()
    pixels, image = network(images)
    near, = torch.autograd.grad(pixels[0, 0, 16, 16], images, retain_graph=True)
    assert near[..., 16, 16].abs().sum() > 0
    assert not near[..., :4].any()
    everywhere, = torch.autograd.grad(image.sum(), images)
    assert (everywhere.abs().sum(1) > 0).all()


@pytest.mark.slow
def test_it_learns_to_tell_which_half_of_a_picture_is_blurred():
    """What patch scores of the whole picture cannot: pixels of both kinds in one picture."""
    network = build()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(40):
        real = noise(4, 3, 16, 16, seed=step)
        fake = F.avg_pool2d(real, 3, 1, 1)
        (real_pixels, real_image), (fake_pixels, fake_image) = network(real), network(fake)
        loss = sum(F.softplus(-scores).mean() for scores in (real_pixels, real_image)) + sum(
            F.softplus(scores).mean() for scores in (fake_pixels, fake_image))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    mixed = noise(4, 3, 16, 16, seed=1000)
    mixed[..., 8:] = F.avg_pool2d(mixed, 3, 1, 1)[..., 8:]
    with torch.no_grad():
        pixels, _ = network.eval()(mixed)
    assert (pixels[..., :6] > 0).float().mean() > 0.9
    assert (pixels[..., 10:] < 0).float().mean() > 0.9


def test_smallest_image_is_exact():
    network = build()
    assert network.smallest_image == 4
    network(noise(1, 3, 4, 4))
    with pytest.raises(ValueError, match='40x3 px is too small for num_layers=2: use at least 4 px'):
        network(noise(1, 3, 3, 40))


def test_widths_double_up_to_8x_or_the_largest():
    found = [block.shortcut.out_channels for block in build(num_layers=5, width=2).encoder]
    assert found == [4, 8, 16, 16, 16]
    assert [block.shortcut.out_channels for block in build(num_layers=3, width=2, max_width=5).encoder] == [4, 5, 5]


def test_scores_are_float32_under_autocast():
    network, images = build().eval(), noise(2, 3, 16, 16)
    with torch.autocast('cpu', torch.bfloat16):
        low = network(images)
    for scores, exact in zip(low, network(images), strict=True):
        assert scores.dtype == torch.float32
        torch.testing.assert_close(scores, exact, rtol=0.1, atol=0.1)


@pytest.mark.parametrize('norm', ['spectral', 'instance', 'none'])
def test_a_penalty_has_gradients_for_every_weight(norm):
    network, images = build(norm=norm), noise(2, 3, 16, 16).requires_grad_()
    scores = network(images)
    R1Penalty()(DiscriminatorStep(images, images, scores, scores, network)).backward()
    missing = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    # The penalty does not see constants added to the scores.
    assert missing == ['image_score.bias', 'pixel_score.bias'] or not missing


@pytest.mark.parametrize('settings', [dict(precision='bf16'), dict(turns='joint'),
                                      dict(discriminator_augmentation=dict(type='DiffAugment'))])
def test_it_trains_with_every_row_of_the_discriminator(train_with_every_row, settings):
    train_with_every_row(dict(type='UNetDiscriminator', num_layers=2, width=4), **settings)


@pytest.mark.parametrize('settings', [dict(num_layers=0), dict(width=0), dict(norm='layer')])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match='whole numbers from 1, and one of spectral, none, batch, instance'):
        build(**settings)
