"""Where each sample lies among the others: `neighbours.py` finds the nearest, `projection.py` draws the map."""
