# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Attack anything
#
# A network need not answer with one class. It may say yes or no to several labels, or a number, or a class for every
# pixel. The attack stays the same; what changes is the *objective*, which reads the answer, and the *goal*, which says
# what is wanted of it. Here are three tasks on the same digits, each with a network that is trained on the way, and
# the same ten lines for each.

# %%
import sys

import jax
import numpy as np

import cwjax as cw
from cwjax import goals

sys.path[:0] = [".", ".."]  # where the experiments are: the notebook may run in its folder or above it
from experiments import regression, segmentation, shown, two_labels

# How long networks are trained, how many images are attacked, and for how many gradients each.
UPDATES, EXAMPLES, STEPS = 300, 6, 100


def attacked(model, objective, x, goal):
    """The ten lines: an attack, a batch, a program, and the result."""
    attack = cw.fast("l2", objective=objective, steps=STEPS)
    run = jax.jit(cw.batched(attack))
    return run(model, jax.random.split(jax.random.key(0), len(x)), x, goal)


# %% [markdown]
# ## Several labels at once
#
# Two digits stand side by side. The network has twenty outputs: ten say whether a digit is at the left, ten whether it
# is at the right, each yes where it is above 0. Nothing makes them sum to one, so that a network may see two digits in
# one place, or none.
#
# `labels_flipped(labels, 2)` asks for any two answers to become wrong. `labels_reached(wanted)` asks for all twenty.

# %%
pairs = two_labels.Arguments(updates=UPDATES, pairs=4000, examples=EXAMPLES)
labels_model, _, two_digits, labels, names = two_labels.subject(pairs)
flips = attacked(labels_model, cw.objectives.several_labels(hinged=False), two_digits, goals.labels_flipped(labels, 2))

# %% [markdown]
# The check is one line of NumPy: how many of the twenty answers are not what they were? It knows nothing of the
# objective.

# %%
answers = shown.outputs_of(labels_model, np.asarray(flips.x)) > 0
flipped = (answers != labels).sum(1)
print("answers that have become wrong:", flipped)
print("lengths of the changes:", *(f"{each:.2f}" for each in flips.distance))


def rows_of(clean, result, before, after, count=3):
    """The first images, what the attack made of them, and what the network says of both."""
    saved = np.asarray(result.x)
    return [shown.compared(f"image {i + 1}", clean[i], saved[i], before[i], after[i]) for i in range(count)]


# %%
import matplotlib.pyplot as plt


def show(title, columns, rows, **options):
    """The picture that the experiments draw, in a notebook."""
    picture = shown.picture(title, columns, rows, **options)
    image = np.asarray(_pixels(picture))
    figure = plt.figure(figsize=[side / 140 for side in image.shape[1::-1]])
    figure.add_axes((0, 0, 1, 1)).imshow(image)
    figure.axes[0].axis("off")


def _pixels(picture):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(picture)
    canvas.draw()
    return canvas.buffer_rgba()


words = [[two_labels.said(row, names) for row in each] for each in (labels, answers)]
show("Two of twenty answers flip", shown.COMPARED, rows_of(two_digits, flips, *words))

# %% [markdown]
# Some digits are no longer seen, others are seen besides: the attack takes whichever two answers are nearest.

# %% [markdown]
# ## A number
#
# This network says by how many degrees a digit leans: positive to the right, as / does. `value_left(answer, 10)` asks
# for an answer that is off by at least ten degrees, on whichever side; `value_reached(value, 1)` for one within a
# degree of a value. The goal here starts from what the network says of the clean image.

# %%
number_model, error, digits = regression.subject(regression.Arguments(updates=UPDATES, examples=EXAMPLES))
lean = shown.outputs_of(number_model, digits.images)
leaves = attacked(number_model, cw.objectives.tolerance(hinged=False), digits.images, goals.value_left(lean, 10.0))
moved = shown.outputs_of(number_model, np.asarray(leaves.x))
print("degrees before:", np.round(lean, 1))
print("degrees after: ", np.round(moved, 1))
print("lengths of the changes:", *(f"{each:.2f}" for each in leaves.distance))

# %%
words = [[f"“leans by {value:.1f}°”" for value in each] for each in (lean, moved)]
show("The answer is off by ten degrees", shown.COMPARED, rows_of(digits.images, leaves, *words))

# %% [markdown]
# All end ten degrees away and hardly a hundredth more: the attack stops where the goal begins.

# %% [markdown]
# ## A class for every pixel
#
# Digits on a noisy background, and a network that says of each pixel which digit it belongs to, or none. A goal is a
# share of the pixels that count: `pixels_left(classes, share=0.5, counted=...)` asks for half of the digit's own pixels
# to be taken for anything else.

# %%
pixels_model, _, scenes = segmentation.subject(segmentation.Arguments(updates=UPDATES, examples=EXAMPLES))
foreground = scenes.labels > 0
half = goals.pixels_left(scenes.labels, share=0.5, counted=foreground)
mislabels = attacked(pixels_model, cw.objectives.pixels(hinged=False), scenes.images, half)
seen, mistaken = (
    shown.outputs_of(pixels_model, images).argmax(-1) for images in (scenes.images, np.asarray(mislabels.x))
)
wrong = ((mistaken != scenes.labels) & foreground).sum((1, 2)) / foreground.sum((1, 2))
print("share of the digit that is mislabelled:", np.round(wrong, 2))
print("lengths of the changes:", *(f"{each:.2f}" for each in mislabels.distance))

# %%
rows = []
for i in range(3):
    before, after = scenes.images[i], np.asarray(mislabels.x[i])
    images = (before[..., 0], seen[i], after[..., 0], mistaken[i], (after - before)[..., 0])
    told = [segmentation.said(each[i], scenes.labels[i]) for each in (seen, mistaken)]
    rows.append(shown.Row(f"image {i + 1}", images, ("", told[0], "", told[1], shown.in_words(before, after))))
show("Half of the digit is taken for something else", segmentation.COLUMNS, rows, classes=True)

# %% [markdown]
# ## From here
#
# Every attack that is made of an objective takes these: put `cw.l2` or `cw.fast("linf")` in the place of
# `cw.fast("l2")`. `experiments/` has the same three at full size, with tables, and two more: one change that fools
# several networks (`cw.joined` and `objectives.all_of`), and a network that is random (`cw.averaged`). An objective for
# a task that is not among these is a loss and a test, as notebook 3 writes one.
