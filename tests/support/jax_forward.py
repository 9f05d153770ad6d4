"""Every model's forward pass from stored weights, to be run under KERAS_BACKEND=jax.

    python -m tests.support.jax_forward INPUTS.npz OUTPUTS.npz

INPUTS.npz holds `features` (JSON), `arguments` (JSON: model -> constructor arguments), `ids`,
`values` and the weights `NAME/0`, `NAME/1`, ...; OUTPUTS.npz gets the logits `NAME`. Where a model
fails, `NAME` is the error's text instead.
"""

import json
import sys

import numpy as np


def main(source: str, target: str) -> None:
    import keras

    import models
    from models import Features

    if keras.backend.backend() != "jax":
        raise SystemExit(f"expected the JAX backend, got {keras.backend.backend()!r}")
    stored = np.load(source)
    features = Features.from_config(json.loads(str(stored["features"])))
    inputs = {"ids": stored["ids"], "values": stored["values"]}
    outputs = {}
    for name, arguments in json.loads(str(stored["arguments"])).items():
        try:
            model = models.build(name, features, **arguments)
            model.set_weights([stored[f"{name}/{i}"] for i in range(len(model.weights))])
            outputs[name] = np.asarray(model(inputs, training=False))
        except Exception as error:  # One model's failure must not hide the others' results.
            outputs[name] = np.array(f"{type(error).__name__}: {error}")
    np.savez(target, **outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
