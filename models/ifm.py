"""Interaction-aware Factorization Machine and its ablations."""

from typing import Any

import keras
from keras import ops

from models.gim import GIM
from models.zoo import register

_PAPER = "Hong et al., AAAI 2019"


@register(
    "ifm",
    paper=_PAPER,
    order="2",
    use="AFM that also learns how much each factor counts for a pair of fields; additive",
)
@register(
    "ifm-",
    paper=_PAPER,
    order="2",
    use="IFM without factorization: few fields, where one vector per pair is affordable",
    field_aspect="full",
)
@register(
    "fa-ifm",
    paper=_PAPER,
    order="2",
    use="ablation of IFM: attention over pairs only (AFM with a temperature, p = 1)",
    field_aspect="none",
)
@register(
    "ia-ifm",
    paper=_PAPER,
    order="2",
    use="ablation of IFM: importance by field pair only, no attention",
    feature_aspect=False,
)
@register(
    "ifm-sampling",
    paper=_PAPER,
    order="2",
    use="IFM for many fields: trains on a draw of the pairs, predicts with all",
    sampling=0.5,
)
@keras.saving.register_keras_serializable(package="ctr")
class IFM(GIM):
    """y = w0 + sum_i w_i x_i + sum_{i<j} T_ij <F_ij, v_i * v_j> x_i x_j

    with F_ij = D^T (U_i * U_j): Hong et al. 2019, eq. 9, which is GIM with G the sum (eq. 13). T is
    a softmax with temperature over the pairs that exist (readings 1, 2 and 11). The ablations
    switch one aspect off (FA-IFM and IA-IFM, reading 12), leave F unfactorized (IFM-, reading 13)
    or draw pairs in training (reading 17; the paper gives no share for IFM-sampling: a half).
    Arguments are those of GIM.
    """

    def combine(self, interactions: Any, training: bool | None = None) -> Any:
        return ops.expand_dims(ops.sum(ops.cast(interactions, "float32"), axis=(1, 2)), -1)

    def explain(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {**super().explain(inputs), "order_2_contributions": self.pair_matrix(inputs)}
