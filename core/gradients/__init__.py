"""Per-sample gradients, kept as what they consist of: `last_layer.py` the factors, `sketch.py` a projection of them."""
