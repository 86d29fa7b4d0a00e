"""The recurrent cells, as the textbook has them, on vectors of 16 units."""

from numpy import float32

from numlstm.kernels.activations import sigmoid, tanh
from numlstm.kernels.simd import jit, splat

_ONE = float32(1.0)


@jit
def gru_cell(r, z, n_x, n_h, h):
    """Return one GRU step from its pre-activations, the reset gate applied after the product.

        n  <- tanh(n_x + sigmoid(r) * n_h)
        h' <- (1 - sigmoid(z)) * n + sigmoid(z) * h

    r, z   16 units each, w_ih @ x + w_hh @ h + bias
    n_x    w_in @ x + b_in
    n_h    w_hn @ h + b_hn
    h      16 units of hidden state
    torch.nn.GRU; Cho et al. 2014, in the form of cuDNN.
    """
    n = tanh(n_x + sigmoid(r) * n_h)
    z = sigmoid(z)
    return (splat(_ONE) - z) * n + z * h


@jit
def lstm_cell(i, f, g, o, c):
    """Return (c', h') of one LSTM step from its pre-activations.

        c' <- sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' <- sigmoid(o) * tanh(c')

    i, f, g, o   16 units each, w_ih @ x + w_hh @ h + bias
    c            16 units of cell state
    torch.nn.LSTM, equations 1-6; Gers, Schmidhuber, Cummins 2000 (the forget gate).
    """
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return c, sigmoid(o) * tanh(c)
