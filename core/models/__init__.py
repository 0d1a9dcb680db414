"""Networks: the reference network, its training, and the record a training leaves of every sample."""
