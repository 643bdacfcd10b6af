"""32x with strided convs and nearest neighbours in place of residual sampling."""

_base_ = '../wfvae2_32x_1024.py'
model = dict(autoencoder=dict(downsample=dict(_delete_=True, type='StridedDownsample'),
                              upsample=dict(_delete_=True, type='NearestUpsample')))
