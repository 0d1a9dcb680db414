"""The running half of a proof: make the arms, fit or train each, keep what came of them for `core.verify` to read.

| file | holds |
|---|---|
| `run.py` | `verify`: run the arms, keep what came of them |
| `ground.py` | what is compared: options, arms, test rows |
| `quick.py` | the quick form: a linear head on recorded features |
| `full.py` | the full form: retraining, in units that are never trained twice |
| `test_set.py` | the rows on which arms are compared |
| `groups.py` | groups of images that may win or lose: classes, columns, clusters |
| `tables.py` | decisions from a table, as one more arm |
| `recorded.py` | the features of the last run |
| `reproduce.py` | trim and retrain as the first paper does it |
| `chain.py` | one such run: train, score, trim, train again |
| `cifar10n.py` | the rows and labels of that experiment |
| `reproduction.py` | its lines beside the published ones |
"""
