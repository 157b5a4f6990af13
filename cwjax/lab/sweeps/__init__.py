"""Sweeps: every combination of models, data, attacks, settings, targets and seeds, in units that survive what happens.

    from cwjax.lab.sweeps import grid, results, working

    sweep = grid.Sweep(model=("zoo:mnist_cnn",), attack=("fast_l2",), confidence=(0.0, 5.0, 10.0), examples=200)

`grid` says what is asked for, `units` cuts it into pieces, `vault` keeps what came of each, `leases` says who is at
which, `working` does them, `launching` spreads them over machines, `results` is the table.
"""
