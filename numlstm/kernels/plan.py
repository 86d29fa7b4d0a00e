"""The table that tells the walker what to run: one int64 row per operation.

A column holds a kind, a size, or an offset into `params` or `state`. `build.py` fills the table,
`layers.py` and `network.py` read it. Sizes count floats; those of buffers are multiples of 16.
"""

# Kinds. The first row of a plan is INPUT or EMBEDDING, the last is OUTPUT.
INPUT, EMBEDDING, LINEAR, RNN, GRU, LSTM, LAYER_NORM, ACTIVATION, SOFTMAX, MEAN, MAX, OUTPUT = (
    range(12)
)

# Columns.
KIND = 0
X_SIZE = 1  # floats read per row
Y_SIZE = 2  # floats written per row
X_AT = 3  # state: the first row of input
X_STRIDE = 4  # from one row of input to the next
Y_AT = 5  # state: the first row of output
Y_STRIDE = 6
W_AT = 7  # params: packed weights, or the rows of an embedding
B_AT = 8  # params: bias
H_AT = 9  # state: what is kept from step to step (h; a pool's sum or maximum)
C_AT = 10  # state: the second such vector (c; a pool's rounding errors)
COUNT_AT = 11  # state: an int64 counter
FUNCTION = 12  # one of activations.FUNCTIONS
# Only in the first row:
BLOCK_ROWS = 13  # steps that fit in the buffers
STATE_SIZE = 14  # what is kept from step to step is state[:STATE_SIZE]
NUM_ROWS = 15  # rows of the plan
ARRAY_TYPE_AT = 16  # addresses by which `arrays.py` knows an array
FLOAT32_AT = 17
MAX_STEPS = 18  # of one call
NUM_COLUMNS = 19
