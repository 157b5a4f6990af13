# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # A first attack, step by step
#
# How small a change makes a network misread a digit? We train the report's network on 4,000 real digits, attack a few
# it has not seen, watch the attack's best distance fall, and look at what it found. A minute or two on two cores.

# %%
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import cwjax as cw
from cwjax.lab import data, training

EXAMPLES, STEPS, EPOCHS = 8, 300, 20

# %% [markdown]
# ## The network
#
# Trained once and then found again under `runs/models`; its card says how it was made.

# %%
trained = training.train(training.Training(epochs=EPOCHS), Path("runs/models"))
f"{trained.card['test_accuracy']:.1%} right on digits it has not seen"

# %% [markdown]
# ## The attack
#
# An attack is a descent and a search. The descent minimises `|x' - x|₂² + c·f(x')`, where f is zero once the network
# is fooled; the search looks for the smallest weight c that fools it at all. Both are written for one example;
# `traced` runs them on a batch and keeps the best distance after every step. The caller decides where `jit` goes.

# %%
digits = data.load("mnist5k", "test")
x, labels = jnp.asarray(digits.images[:EXAMPLES]), digits.labels[:EXAMPLES]
goal = cw.untargeted(labels)
cw.validate(trained.model, x, goal)

attack = cw.l2(steps=STEPS, search=cw.binary_search(steps=5, initial_c=0.1))
run = jax.jit(cw.traced(attack, num_steps=5 * STEPS))
result, trace = run(trained.model, jax.random.split(jax.random.key(0), EXAMPLES), x, goal)
print(f"fooled: {result.success.mean():.0%}, median L2 norm {np.median(result.distance):.2f}")
print(f"gradients for each: {result.forwards.mean():.0f}")

# %% [markdown]
# ## The best distance after each gradient
#
# It falls within a round as the descent closes in, and between rounds as the search finds a better weight. A curve
# starts where the first adversarial example was found.

# %%
figure, axes = plt.subplots(figsize=(7, 3.5))
axes.plot(np.where(np.isfinite(trace.distance), trace.distance, np.nan).T, linewidth=1)
axes.set(xlabel="gradients spent", ylabel="best L2 norm so far", ylim=(0, None))
figure.tight_layout()

# %% [markdown]
# ## What was found
#
# Above the digit, below its adversarial twin, with what the network reads in each.

# %%
answers = np.asarray(trained.model.apply(trained.model.params, result.x)).argmax(1)
figure, rows = plt.subplots(2, EXAMPLES, figsize=(EXAMPLES, 2.6))
for i in range(EXAMPLES):
    for axis, image, word in zip(rows[:, i], (x[i], result.x[i]), (labels[i], answers[i]), strict=True):
        axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
        axis.set_title(str(word))
        axis.axis("off")
figure.tight_layout()

# %% [markdown]
# ## Can the number be believed?
#
# An example is reported as adversarial only if it survives a second look: the saved array, through the network alone.

# %%
saved = np.asarray(result.x)
print(
    "survive re-evaluation:",
    int(cw.metrics.successes(trained.model, saved, goal).sum()),
    "of",
    int(result.success.sum()),
)
