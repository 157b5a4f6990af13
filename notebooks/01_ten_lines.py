# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Ten lines
#
# How small a change makes a network misread a digit? Ten lines answer it for ten digits, one of each class. The
# network comes with the library; the digits come with a package, and the network has not seen them before. Nothing is
# downloaded.

# %%
import jax

import cwjax as cw
from cwjax.lab import data, zoo

digits = data.load("mnist5k", "test")
first = [list(digits.labels).index(digit) for digit in range(10)]
x, labels = digits.images[first], digits.labels[first]
model = zoo.load("mnist_cnn").model
attack = cw.l2(steps=200, search=cw.search.binary_search(steps=5, initial_c=0.1))
run = jax.jit(cw.batched(attack))
result = run(model, jax.random.split(jax.random.key(0), len(x)), x, cw.untargeted(labels))

# %% [markdown]
# What the last four lines say. An *attack* is a value, not a procedure: a descent that minimises
# `|x' - x|₂² + c·f(x')`, where f is zero once the network is fooled, and a search for the weight c, here in five
# rounds of at most 200 steps. It is written for one example. `batched` makes it a function of a batch, and `jax.jit`,
# which you write yourself, makes that one compiled program. Each example has a random key of its own, so that it does
# not matter in whose company it is attacked.
#
# The *goal* is data too: `untargeted(labels)` is to leave these classes, `targeted(classes)` to reach others.

# %% [markdown]
# ## What came back
#
# A `Result` has one row an example. `distance` is the L2 norm of the change (not its square), `c` the weight under
# which the example was found. `forwards` and `backwards` count what was spent: a step costs one of each, and a round
# may end before its 200 steps are over. `finite` turns False where a network gives a NaN, `finished` where an attack
# was cut short. Success is never assumed: where `success` is False, `distance` is infinite and `x` is the clean
# image.

# %%
print("digit  success  distance      c  forwards  backwards  finite  finished")
for row in zip(labels, *result[1:], strict=True):
    print("{:5d}  {!s:>7}  {:8.2f}  {:5.2f}  {:8d}  {:9d}  {!s:>6}  {!s:>8}".format(*(value.item() for value in row)))

# %% [markdown]
# ## Check it yourself
#
# A number is worth what its check is worth, and the check needs nothing of the attack: take the array as you would
# save it, put it through the plain network, measure it with NumPy. `metrics.successes` is the first of these checks
# in one call. It agrees because an attack reports a success only where the lead is larger than rounding could
# overturn.

# %%
import numpy as np


def answers(images):
    """What the network reads."""
    return np.asarray(model.apply(model.params, images)).argmax(-1)


saved = np.asarray(result.x)
norms = np.linalg.norm((saved - x).reshape(len(x), -1), axis=1)
checks = {
    "the network reads the clean digits": (answers(x) == labels).all(),
    "it misreads their twins": (answers(saved) != labels).all(),
    "pixels are in [0, 1]": saved.min() >= 0 and saved.max() <= 1,
    "norms are as reported": np.allclose(norms, result.distance, rtol=1e-5),
    "metrics.successes agrees": (cw.metrics.successes(model, saved, cw.untargeted(labels)) == result.success).all(),
}
for check, holds in checks.items():
    print(f"{check}: {'yes' if holds else 'NO'}")
margins = cw.metrics.margins(model, saved, cw.untargeted(labels))
print(f"leads: {margins.min():.4f} to {margins.max():.4f} logits, so the boundary is just behind them")

# %% [markdown]
# ## What it looks like
#
# Above the digit; in the middle its adversarial twin, and what the network reads in each; below the difference, red
# where it is brighter now, blue where darker.

# %%
import matplotlib.pyplot as plt

from cwjax.lab.reporting.pictures import BLUE, GREEN, INK, ORANGE, plain


def compare(clean, adversarial, titles):
    """Clean images, adversarial images and their differences, one below the other."""
    delta = np.asarray(adversarial - clean)
    _, rows = plt.subplots(3, len(clean), figsize=(len(clean), 3.4), layout="constrained")
    for axis, image in zip(rows[0], clean, strict=True):
        axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
    for axis, image, title in zip(rows[1], adversarial, titles, strict=True):
        axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, color=INK, fontsize=10)
    for axis, image in zip(rows[2], delta, strict=True):
        axis.imshow(image[..., 0], cmap="RdBu_r", vmin=-0.5, vmax=0.5)
    for axis in rows.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("#dddddd")


compare(x, result.x, [f"{a} → {b}" for a, b in zip(labels, answers(result.x), strict=True)])

# %% [markdown]
# ## One part in the place of another
#
# The changes keep to the strokes of the pen. No theory of digits asks for that; the attack's box does. As published
# it moves a variable w with `x' = (1 + tanh w) / 2`, so that every w is a valid image. But a black pixel lies exactly
# on the bound, where tanh is flat, and 200 short steps do not get it away from there; the released code takes up to
# 10,000 a round. Every part of an attack is an argument, so let us try the paper's other box, which moves the pixels
# themselves and clips them after each step.

# %%
clipping = cw.l2(steps=200, search=cw.search.binary_search(steps=5, initial_c=0.1), box=cw.boxes.projected())
closer = jax.jit(cw.batched(clipping))(model, jax.random.split(jax.random.key(0), len(x)), x, cw.untargeted(labels))
compare(x, closer.x, [f"{a} → {b}" for a, b in zip(labels, answers(closer.x), strict=True)])

# %% [markdown]
# Now the surroundings change as well, and much less has to.

# %% [markdown]
# ## The same for a fraction of the price
#
# For a given number of gradients there is the fast family: the same problem, in the same box, with c and the length
# of a step turned at every step instead of round by round. A hundred gradients do what the rounds did with hundreds
# more.
#
# This time `jit` goes around a function of the number of steps. Every number of an attack may be traced, so that
# another number of steps does not compile again, and neither do other weights of the network.

# %%
fast = jax.jit(lambda steps, *given: cw.batched(cw.fast("l2", steps=steps))(*given))
quick = fast(100, model, jax.random.split(jax.random.key(0), len(x)), x, cw.untargeted(labels))
runs = {"l2": result, "l2, projected": closer, "fast_l2": quick}
for name, each in runs.items():
    print(f"{name:14} {each.forwards.mean():5.0f} gradients an example, mean distance {each.distance.mean():.2f}")

# %%
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
for shift, color, (name, each) in zip((-0.12, 0, 0.12), (BLUE, GREEN, ORANGE), runs.items(), strict=True):
    axes.vlines(labels + shift, 0, each.distance, color=color, linewidth=1, alpha=0.5)
    axes.plot(labels + shift, each.distance, "o", color=color, label=f"{name}: {each.forwards.mean():.0f} gradients")
axes.set(xticks=labels, ylim=(0, None))
plain(axes, "digit", "L2 norm of the change")
axes.legend(frameon=False)

# %% [markdown]
# ## Any digit as any other
#
# Nothing has to be built anew for a targeted attack: the goal is an argument, and the program that is compiled takes
# it. Here is one digit ten times, towards every class. Its own class it reaches at distance 0, before it has moved.

# %%
copies = np.repeat(x[3:4], 10, axis=0)
towards = fast(100, model, jax.random.split(jax.random.key(1), 10), copies, cw.targeted(np.arange(10)))
words = zip(answers(towards.x), towards.distance, strict=True)
compare(copies, towards.x, [f"{answer}, at {distance:.2f}" for answer, distance in words])

# %% [markdown]
# ## When it fails
#
# Three gradients are too few for most. A failure is a value, and stands where the example stood, so that no row
# shifts; an average over it is infinite, so that nobody takes it for a result by accident.

# %%
hasty = fast(3, model, jax.random.split(jax.random.key(0), len(x)), x, cw.untargeted(labels))
failed = ~np.asarray(hasty.success)
print("distances:", *(f"{distance:.2f}" for distance in hasty.distance))
print("failures come back clean:", bool((np.asarray(hasty.x)[failed] == x[failed]).all()))

# %% [markdown]
# ## From here
#
# `cw.linf`, `cw.l0`, `cw.l1` and their fast twins stand where `cw.l2` stood. For thousands of images put
# `cw.streamed` in the place of `jax.jit(cw.batched(…))`. The next notebook watches the search at work; the one after
# it writes an objective and an attack of its own.
