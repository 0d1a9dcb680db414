"""Did it help? Trainings compared honestly: what each arm changes, what came of it, and the rule of the verdict.

`arms` makes training sets out of decisions and scores, `record` keeps what came of them, `compare` gives differences
with intervals, `verdict` the word and its rule, `losses` who pays, `noise` how wrong a test set's own labels may be.
Nothing here trains and nothing here loads torch: `core.retrain` runs, pages and exports read.
"""
