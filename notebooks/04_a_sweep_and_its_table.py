# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # A sweep and its table
#
# What does the objective matter, what the box? The paper's answer is a table (its Table III), and a table is many
# attacks: every objective with every box, on the same images. `cwjax sweep` does that on the command line; here we do
# it from Python, stop it half-way, let it go on, and ask the table in SQL and in pandas.

# %%
import itertools
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from cwjax.lab.reporting.pictures import INK, plain
from cwjax.lab.sweeps import grid, outcomes, results, sweep_report, units, working

EXAMPLES, STEPS, OBJECTIVES = 20, 30, ("f1", "f6")

folder = Path("runs/notebook_sweep")
shutil.rmtree(folder, ignore_errors=True)  # so that there is something to do when this is run again

# %% [markdown]
# ## The grid
#
# A sweep is axes with any number of values; what is left out has one, the attack's own. Every combination is a
# configuration, and every configuration is cut into units of `chunk` examples. A unit is named by the SHA-256 of all
# that decides its rows: the settings, the weights, the images, the code.

# %%
sweep = grid.Sweep(
    model=("zoo:mnist_cnn",),
    attack=("l2",),
    objective=OBJECTIVES,
    box=("projected", "change_of_variables"),
    confidence=(0.0, 5.0),
    steps=(STEPS,),
    search_steps=(4,),
    initial_c=(1.0,),
    learning_rate=(0.1,),
    examples=EXAMPLES,
    chunk=EXAMPLES // 2,
    checks=False,  # whether to ask of each configuration if its numbers can be believed, which takes longer than these
)
plan = units.plan(grid.read(None, sweep))
print(f"{len(plan.configurations)} configurations, {len(plan.all)} units")
for unit in plan.all[:3]:
    own = unit.configuration.settings
    where = f"examples {unit.start} to {unit.stop - 1} of {own.objective}, {own.box}, confidence {own.confidence:g}"
    print(f"unit {unit.digest[:12]}: {where}")

# %% [markdown]
# ## Stopped, and run again
#
# We press Ctrl-C after five units, or rather have somebody press it who is told of every unit. What was done is kept:
# a unit is a folder that appears whole or not at all. The same call then does what is left, and a third has nothing
# to do. Nobody has to remember how far it came.


# %%
def pressed_after(count):
    """Ctrl-C after so many units."""
    places = itertools.count(1)

    def told(unit, facts):
        if next(places) == count:
            raise KeyboardInterrupt

    return working.Watcher(done=told)


def began():
    """How often any worker of this sweep has begun a unit."""
    return sum(file.read_text().count('"began"') for file in (folder / "events").glob("*.jsonl"))


results.record(plan, folder)
try:
    working.work(folder, plan.all, pressed_after(5))
except KeyboardInterrupt:
    kept = len(list((folder / "units").iterdir()))
    print(f"stopped: {kept} units of {len(plan.all)} are kept")

before = began()
working.work(folder, plan.all)
again = began() - before
print(f"run again: {again} units were done")

before = began()
working.work(folder, plan.all)
third = began() - before
print(f"and again: {third} units were done")

# %% [markdown]
# ## The table, by SQL
#
# One row for every configuration, example and target, with the axes as columns. `results.query` puts it before DuckDB
# under the name `results`; `cwjax results FOLDER "…"` is the same on the command line, and may be asked while the sweep
# is still running.

# %%
axes = ["objective", "box", "confidence"]
question = """
    select objective, box, confidence, round(100 * avg(success::int), 1) as "success %",
           avg(distance) filter (success) as mean, median(distance) filter (success) as median,
           avg(backwards) as gradients
    from results group by all order by objective, box, confidence
"""
answer, missing = results.query(folder, question)
by_sql = answer.to_pandas()
print(by_sql.round(3).to_string(index=False))

# %% [markdown]
# Each mean is over a configuration's own successes, so one that fails on the hard images looks better than it is. To
# compare like with like, take the images that every configuration fooled:

# %%
fair = """
    with common as (select index from results group by index having bool_and(success))
    select box, objective, confidence, avg(distance) as mean, count(*) as images
    from results where index in (from common) group by all order by mean
"""
print(results.query(folder, fair)[0].to_pandas().round(3).to_string(index=False))

# %% [markdown]
# ## The same in pandas

# %%
table, _ = results.table(folder)
frame = table.to_pandas()
hard = frame[frame.success].groupby("label").distance.mean().sort_values()
print(f"the digit that is easiest to change: {hard.index[0]}; the hardest: {hard.index[-1]}")

grid_of = frame[frame.success & (frame.confidence == 0)].pivot_table(
    index="box", columns="objective", values="distance"
)
print(grid_of.round(3))

# %% [markdown]
# ## The heat map

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 2.6), layout="constrained")
fooled = frame[frame.success]
for panel, (confidence, some) in zip(panels, fooled.groupby("confidence"), strict=True):
    cells = some.pivot_table(index="objective", columns="box", values="distance")
    panel.imshow(cells, "Blues", vmin=0, vmax=fooled.groupby(axes).distance.mean().max() * 1.5, aspect="auto")
    for (i, j), value in np.ndenumerate(cells):
        panel.text(j, i, f"{value:.2f}", ha="center", va="center", color=INK)
    panel.set_xticks(range(len(cells.columns)), cells.columns)
    panel.set_yticks(range(len(cells.index)), cells.index)
    panel.set_title(f"mean L2 norm, confidence {confidence:g}")

# %% [markdown]
# With a few dozen gradients it is the box that decides, not the objective: a step in the pixels goes where it points,
# one in the arctanh of the pixels hardly moves those that are black or white, and in a digit most are.

# %%
figure, panel = plt.subplots(figsize=(8, 3.6), layout="constrained")
for (box, confidence), some in frame[frame.objective == "f6"].groupby(["box", "confidence"]):
    distance = np.sort(some.distance[some.success])
    share = np.arange(1, len(distance) + 1) / len(some)
    panel.step(distance, share, where="post", label=f"{box}, confidence {confidence:g}")
plain(panel, "L2 norm of the perturbation", "fooled within that norm")
_ = panel.legend(frameon=False)

# %% [markdown]
# ## The report
#
# All of this, and pictures of every configuration, is what `cwjax report FOLDER` writes: one HTML file that opens
# without a network, and a Markdown twin.

# %%
found, missing = outcomes.read(folder)
page = sweep_report.write(folder, folder)
print(f"{page}: {page.stat().st_size / 1e6:.1f} MB, {len(found)} configurations, {missing.units} units missing")
