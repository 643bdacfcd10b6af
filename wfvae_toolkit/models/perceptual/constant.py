"""Networks that are constants of a training."""

from torch import nn


def as_constant(network):
    """Turn every parameter and buffer of a network into a buffer outside the state dict, for use inside another module.

    Its weights then enter no checkpoint, no optimizer and no gradient sync, and it stays in evaluation mode.

    Returns:
        nn.Module: call it like ``network``, which is its attribute of that name.
    """
    for module in list(network.modules()):
        tensors = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
        for name, tensor in tensors.items():
            delattr(module, name)
            module.register_buffer(name, tensor.detach(), persistent=False)
    return _Evaluating(network)


class _Evaluating(nn.Module):
    """A network that stays in evaluation mode whatever its owner does."""

    def __init__(self, network):
        super().__init__()
        self.network = network.eval()

    def train(self, mode=True):
        return self

    def forward(self, *inputs):
        return self.network(*inputs)
