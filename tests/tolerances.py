"""How far apart two float32 results of one network may lie, from the roundings that are in them."""

UNIT = 2.0**-24  # a float32 operation is exact but for this share of its result


def of_network(network):
    """Relative difference that another kernel may make in the outputs of ``network`` and in its gradients' sums.

    The processor, the number of threads, the batch and the size of the pictures choose the kernel, and the kernel
    chooses the order of a sum. Two orders of a sum of n products differ by about sqrt(n) UNIT of its size, because the
    single roundings are independent (Higham and Mary 2019, SIAM J. Sci. Comput. 41). Each of the L layers adds such a
    difference. Norms and residual connections pass earlier ones on at the same relative size, so that in the worst
    case, all of one sign, L sqrt(n) UNIT come together. A fault (a wrong weight of a batch, a missing picture) is
    larger by orders of magnitude.
    """
    layers = [list(module.parameters(recurse=False)) for module in network.modules()]
    layers = [parameters for parameters in layers if parameters]
    terms = max(parameter[0].numel() for parameters in layers for parameter in parameters if parameter.dim())
    return len(layers) * terms**0.5 * UNIT


def of_training(weights, lr, updates):
    """Norm of the difference between the weights of two trainings whose gradients are the same but for rounding.

    Only the order of float32 sums differs: 6e-8 of a sum, 1e-5 of a weight after 10 updates. Where a gradient is
    itself rounding noise (a bias on the attention's keys, which the softmax does not see; single weights), AdamW
    still makes a full step, of either sign: 2 * lr an update. One weight in a thousand may be such a one. A wrong
    gradient moves all weights: 30 times as much.
    """
    return 1e-5 * weights.norm() + 2 * lr * updates * (len(weights) / 1000) ** 0.5
