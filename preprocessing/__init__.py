"""Raw logs to prepared datasets: Beam, TensorFlow Transform and Arrow."""
