"""Optimizers that know tables: row-sparse ones, of the TensorFlow backend, one public optimizer per
file, and whole ones for the other backends."""

from models.optimizers.choice import table_update
from models.optimizers.ftrl import FTRL
from models.optimizers.row_sparse import RowSparse
from models.optimizers.sparse_adagrad import SparseAdagrad
from models.optimizers.sparse_adam import SparseAdam
from models.optimizers.sparse_sgd import SparseSGD
from models.optimizers.whole_tables import WholeAdagrad, WholeAdam, WholeFTRL, WholeSGD

__all__ = [
    "FTRL",
    "RowSparse",
    "SparseAdagrad",
    "SparseAdam",
    "SparseSGD",
    "WholeAdagrad",
    "WholeAdam",
    "WholeFTRL",
    "WholeSGD",
    "table_update",
]
