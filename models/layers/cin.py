"""xDeepFM's compressed interaction network."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras
from keras import ops

from models.layers.pair_maps import fold_pairs, maps_of_pairs, train_maps_of_pairs


@keras.saving.register_keras_serializable(package="ctr")
class CIN(keras.layers.Layer):
    """X^k_h = sum_{i,j} W^k_{hij} (X^{k-1}_i * X^0_j), p^k_h = sum_d X^k_hd   (Lian et al. 2018).

    Equations 6 and 7; the output is [p^1, ..., p^L]. Identity activation, no split, no bias
    (reading 37), so that layer k holds products of exactly k + 1 factors, fields repeated or not.

    The first layer's products are symmetric in i and j, so each pair counts once: half the work of
    what is most of the network. Further on X^{k-1} meets W before it meets X^0, so that nothing is
    larger than the paper's own outer product; and the last layer, read only through its sum over
    d, needs the inner products X^{k-1}_i . X^0_j alone, which costs D times less.

    Args:
        units: number of maps H_k of each layer.

    Raises:
        ValueError: no layer, or a size below 1.
    """

    def __init__(self, units: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = list(units)
        if not self.units or any(size < 1 for size in self.units):
            raise ValueError(f"a CIN needs layers of at least 1 map each, got {self.units}")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        num_fields = input_shape[1]
        # Row i F + j of a kernel belongs to map i of the layer before and field j.
        self.kernels = [
            self.add_weight(
                name=f"kernel_{layer}",
                shape=(before * num_fields, size),
                initializer="glorot_uniform",
            )
            for layer, (before, size) in enumerate(pairwise([num_fields, *self.units]))
        ]
        self.built = True

    def call(self, vectors: Any, training: bool | None = None) -> Any:
        """Maps field vectors (B, F, D) to the pooled maps of all layers (B, H_1 + ... + H_L)."""
        columns = ops.swapaxes(vectors, 1, 2)
        maps, pooled = columns, []
        for layer, kernel in enumerate(self.kernels[:-1]):
            if layer:
                maps = self._next_maps(maps, columns, kernel)
            else:
                maps = self._first_maps(vectors, kernel, training)
            pooled.append(ops.sum(maps, axis=1))
        inner = ops.matmul(ops.swapaxes(maps, 1, 2), columns)
        inner = ops.reshape(inner, (-1, self.kernels[-1].shape[0]))
        return ops.concatenate([*pooled, ops.matmul(inner, self.kernels[-1])], axis=-1)

    def _first_maps(self, vectors: Any, kernel: Any, training: bool | None) -> Any:
        """X^1, (B, D, H_1)."""
        by_field = ops.transpose(vectors, (1, 0, 2))
        folded = ops.cast(fold_pairs(kernel, vectors.shape[1]), vectors.dtype)
        return (train_maps_of_pairs if training else maps_of_pairs)(by_field, folded)

    def _next_maps(self, maps: Any, columns: Any, kernel: Any) -> Any:
        """X^k of X^{k-1} (B, D, H_{k-1}) and X^0 (B, D, F), (B, D, H_k)."""
        _, dim, num_fields = columns.shape
        before, size = maps.shape[-1], kernel.shape[-1]
        products = ops.matmul(ops.reshape(maps, (-1, before)), ops.reshape(kernel, (before, -1)))
        summed = ops.matmul(
            ops.reshape(columns, (-1, 1, num_fields)),
            ops.reshape(products, (-1, num_fields, size)),
        )
        return ops.reshape(summed, (-1, dim, size))

    def explain(self, vectors: Any, readout: Any) -> dict[str, Any]:
        """Splits readout . [p^1, ..., p^L], exactly, over the pairs of fields.

        Layer k adds products of k + 1 fields; each counts for the pair its chain begins with, so
        that `order_{k+1}_contributions` (B, F, F), symmetric, sums to what the layer adds. The
        weight of a pair is what its product is multiplied with, as a mean over the D dimensions.

        Args:
            vectors: float32 (B, F, D).
            readout: weights of the linear output over the pooled maps.
        """
        _, num_fields, dim = vectors.shape
        columns = ops.swapaxes(vectors, 1, 2)
        parts, start = {}, 0
        for layer, size in enumerate(self.units):
            factor = ops.ones_like(columns[:, :, :1]) * readout[start : start + size]
            start += size
            # From the layer's maps down to the maps of the first: d logit / d X^l, (B, D, H_l).
            for kernel in reversed(self.kernels[1 : layer + 1]):
                shares = ops.matmul(factor, ops.transpose(kernel))
                shares = ops.reshape(shares, (-1, dim, kernel.shape[0] // num_fields, num_fields))
                factor = ops.squeeze(ops.matmul(shares, ops.expand_dims(columns, -1)), axis=-1)
            shares = ops.matmul(factor, ops.transpose(self.kernels[0]))
            shares = ops.reshape(shares, (-1, dim, num_fields, num_fields))
            shares = 0.5 * (shares + ops.swapaxes(shares, 2, 3))
            products = ops.expand_dims(columns, -1) * ops.expand_dims(columns, -2)
            parts[f"order_{layer + 2}_weights"] = ops.mean(shares, axis=1)
            parts[f"order_{layer + 2}_contributions"] = ops.sum(shares * products, axis=1)
        return parts

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}
