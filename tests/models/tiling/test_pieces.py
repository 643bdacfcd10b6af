import pytest
import torch

from wfvae_toolkit.models.tiling.pieces import cut


@pytest.mark.parametrize(('size', 'length', 'overlap'), [(64, 16, 2), (65, 16, 2), (17, 16, 2), (100, 9, 2), (5, 8, 1),
                                                         (7, 3, 0)])
def test_pieces_cover_and_their_weights_sum_to_one(size, length, overlap):
    total = torch.zeros(size)
    for piece in cut(size, length, overlap):
        assert 0 <= piece.start < piece.stop <= size
        assert piece.stop - piece.start <= length + 2 * overlap
        total[piece.start:piece.stop] += piece.weights(total)
    torch.testing.assert_close(total, torch.ones(size))
