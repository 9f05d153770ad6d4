"""The scores of a one-layer ReLU attention network, with their gradient by hand."""

from typing import Any

from keras import ops

from models.layers.own_gradient import own_gradient


@own_gradient
def relu_scores(vectors: Any, kernel: Any, bias: Any, direction: Any) -> Any:
    """h . ReLU(W u_r + b) of all vectors u_r: (N, D) to (N, 1).

    The pairs of a batch are many (N = B F (F - 1) / 2) and their vectors short, so that passes
    over (N, T) tensors are the whole cost. The gradient makes only one, the mask of active units
    times the score's gradient: with M = [W u + b > 0] ds,

        dW = (u^T M) h,  db = (1^T M) h,  dh = sum_d W_d (u^T M)_d + b (1^T M),  du = M (W h)^T

    Args:
        vectors: (N, D).
        kernel: W, (D, T).
        bias: b, (T,).
        direction: h, (T, 1).
    """
    hidden = ops.matmul(vectors, kernel) + bias

    def gradient(upstream: Any) -> tuple[Any, Any, Any, Any]:
        # A product with ones spreads the scores' gradient over T; TensorFlow broadcasts slower.
        spread = ops.matmul(upstream, ops.ones_like(ops.transpose(direction)))
        active = ops.cast(hidden > 0, spread.dtype) * spread
        outer = ops.matmul(ops.transpose(vectors), active)
        total = ops.sum(active, axis=0)
        weights = ops.squeeze(direction, axis=-1)
        d_direction = ops.expand_dims(ops.sum(kernel * outer, axis=0) + bias * total, axis=-1)
        d_vectors = ops.matmul(active, ops.transpose(kernel * weights))
        return d_vectors, outer * weights, total * weights, d_direction

    return ops.matmul(ops.relu(hidden), direction), gradient
