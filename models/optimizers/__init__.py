"""Row-sparse optimizers of the TensorFlow backend, one public optimizer per file."""

from models.optimizers.choice import table_update
from models.optimizers.ftrl import FTRL
from models.optimizers.row_sparse import RowSparse
from models.optimizers.sparse_adagrad import SparseAdagrad
from models.optimizers.sparse_adam import SparseAdam
from models.optimizers.sparse_sgd import SparseSGD

__all__ = [
    "FTRL",
    "RowSparse",
    "SparseAdagrad",
    "SparseAdam",
    "SparseSGD",
    "table_update",
]
