# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Watch the search
#
# Two ways to find the weight c of `|x' - x|₂² + c·f(x')`. The paper searches for it in rounds: a descent to its end,
# then another c. The fast family turns it after every step. This notebook looks at both while they work, on one digit
# of each class and in the same box, and then at what they found: the boundary of the network's decision.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

import cwjax as cw
from cwjax.lab import data, zoo
from cwjax.lab.reporting.pictures import BLUE, INK, ORANGE, PALE, plain

ROUNDS, STEPS = 7, 100

digits = data.load("mnist5k", "test")
first = [list(digits.labels).index(digit) for digit in range(10)]
x, labels = digits.images[first], digits.labels[first]
model, goal, keys = zoo.load("mnist_cnn").model, cw.untargeted(labels), jax.random.split(jax.random.key(0), len(x))

search = cw.search.binary_search(ROUNDS, initial_c=0.01)
paper = cw.l2(box=cw.boxes.projected(), optimizer=optax.adam(2e-2), steps=STEPS, search=search)
parts = {"objective": cw.objectives.logit_margin(), "distance": cw.distances.l2(), "box": cw.boxes.projected()}
descent = cw.descend(**parts, optimizer=optax.adam(1.0), steps=STEPS, abort=cw.aborts.never())
fast = cw.tracked(descent, cw.search.multiplier(steps=STEPS))

# %% [markdown]
# ## The best distance after every gradient
#
# `traced` is `batched` that also tells the best distance, and the c that it was found under, after every step. An
# example without success so far stands at infinity. Thin lines are digits, thick ones the medians; a median begins
# where half of the digits are fooled.

# %%
run_paper = jax.jit(cw.traced(paper, num_steps=ROUNDS * STEPS))
run_fast = jax.jit(cw.traced(fast, num_steps=STEPS))
slow, slow_trace = run_paper(model, keys, x, goal)
quick, quick_trace = run_fast(model, keys, x, goal)
for name, each in {"paper": slow, "fast": quick}.items():
    print(f"{name:5}: mean distance {each.distance.mean():.3f}, {each.forwards.mean():.0f} gradients an example")

figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
for found, trace, color, name in (
    (slow, slow_trace, BLUE, "the paper's rounds"),
    (quick, quick_trace, ORANGE, "turned at every step"),
):
    best = np.asarray(trace.distance)[:, : found.forwards.max()]
    gradients = np.arange(1, best.shape[1] + 1)
    axes.plot(gradients, np.where(np.isfinite(best), best, np.nan).T, color=color, linewidth=0.7, alpha=0.45)
    axes.plot(gradients, [np.sort(now)[len(now) // 2] for now in best.T], color=color, linewidth=2.5, label=name)
axes.set(xscale="log", ylim=(0, 5))
plain(axes, "gradients spent on the digit", "best L2 norm so far")
axes.legend(frameon=False)

# %% [markdown]
# ## Inside a step
#
# `lanes` is the attack in pieces: begin, advance by some steps, read off the result. Between the pieces lie the
# states, one lane an example, and they can be looked at. `progress.last` is what was seen of the last point; `knob`
# is what the search carries. How knobs and attacks are nested is how the attack was put together: `l2` is
# `searched(descend)`, and this fast one is `tracked(descend)`: its descent is never started afresh.


# %%
def watch(attack, num_steps, knob_of):
    """The search's knob before each step, and what was seen in it; the axes are [num_steps, lanes]."""
    begin, advance, _ = cw.lanes(attack)

    def step(states, _):
        after = advance(model, x, goal, states, 1)
        last = after.progress.last
        return after, (knob_of(states), last.distance, last.met, states.progress.done)

    return jax.jit(lambda: jax.lax.scan(step, begin(keys, x, goal), length=num_steps)[1])()


bracket, slow_distance, slow_met, slow_done = watch(paper, ROUNDS * STEPS, lambda states: states.knob)
multiplier, quick_distance, quick_met, quick_done = watch(fast, STEPS, lambda states: states.knob)
slow_spent, quick_spent = (~np.asarray(slow_done)).sum(0), (~np.asarray(quick_done)).sum(0)

# %% [markdown]
# ## The lanes
#
# One row a digit. A round begins at a tick, with the clean image, which the network reads as it should; blue is where
# it misread the point that the step looked at. Rounds at too small a c never come to that. Nobody waits for anybody:
# a round whose loss no longer falls ends early, and its lane goes on to the next, so that the ticks do not line up. A
# white lane is done, and costs nothing more where there is somebody to take its place: `streamed` puts the next
# example there.

# %%
seen = np.where(slow_done, 2, np.asarray(slow_met))
figure, axes = plt.subplots(figsize=(10, 3.6), layout="constrained")
axes.imshow(
    seen.T, aspect="auto", interpolation="nearest", cmap=ListedColormap(["#e4e4e4", BLUE, "white"]), vmin=0, vmax=2
)
for lane, rounds in enumerate(np.asarray(bracket.rounds).T):
    begins = np.flatnonzero(np.diff(rounds, prepend=-1))
    axes.vlines(begins[rounds[begins] < ROUNDS], lane - 0.45, lane + 0.45, color=ORANGE, linewidth=2)
axes.hlines(np.arange(9) + 0.5, -0.5, len(seen), color="white", linewidth=3)
axes.set(xlim=(-4, slow_spent.max() + 4), yticks=range(10), yticklabels=labels, xlabel="gradients", ylabel="digit")
axes.spines[:].set_visible(False)

# %% [markdown]
# ## The weight c
#
# Left the paper's binary search: c grows tenfold until a round succeeds, then it halves the bracket, shaded for one
# digit. Right the fast family: the first gradient gives the scale, as it says how far away the boundary is if the
# network is linear; then c falls a little after a step that fooled the network, and rises a little after one that did
# not.

# %%
DIGIT = 7

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True, layout="constrained")
for axes, c, spent in ((left, bracket.value, slow_spent), (right, multiplier.c, quick_spent)):
    c = np.where(np.arange(len(c))[:, None] < spent[None], c, np.nan)  # until the lane is done
    axes.plot(c, color=PALE, linewidth=0.8, drawstyle="steps-post")
    axes.plot(c[:, DIGIT], color=ORANGE, linewidth=2.2, drawstyle="steps-post", label=f"the {labels[DIGIT]}")
    axes.set(yscale="log")
lower, upper = (np.asarray(end)[: slow_spent[DIGIT], DIGIT] for end in (bracket.lower, bracket.upper))
left.fill_between(
    np.arange(len(lower)),
    np.maximum(lower, 1e-3),
    np.minimum(upper, 30),
    step="post",
    color=ORANGE,
    alpha=0.15,
    linewidth=0,
    label="its bracket",
)
left.set_title("binary search", color=INK)
right.set_title("multiplier", color=INK)
left.set_ylim(5e-3, 3)
plain(left, "gradients", "weight c")
plain(right, "gradients", "")
left.legend(frameon=False)

# %% [markdown]
# ## How far out each step looked
#
# The same digit. A dot is a point that the network was asked about, by its distance from the clean image: filled
# where it fooled the network, pale where it did not. The line is the best so far. A round of the paper's starts at
# the clean image, shoots across the boundary and comes back to it, or stops short of it where c is too small. The
# multiplier has the dots hop across it, ever closer as the steps shorten.

# %%
figure, panels = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True, layout="constrained")
for axes, distance, met, spent in (
    (panels[0], slow_distance, slow_met, slow_spent[DIGIT]),
    (panels[1], quick_distance, quick_met, quick_spent[DIGIT]),
):
    distance, met = np.asarray(distance)[:spent, DIGIT], np.asarray(met)[:spent, DIGIT]
    best, step = np.minimum.accumulate(np.where(met, distance, np.inf)), np.arange(1, spent + 1)
    axes.plot(step[~met], distance[~met], ".", color=PALE, markersize=4, label="read as it should be")
    axes.plot(step[met], distance[met], ".", color=BLUE, markersize=5, label="misread")
    axes.plot(step, np.where(np.isfinite(best), best, np.nan), color=ORANGE, linewidth=1.5, label="best so far")
    plain(axes, "gradients", "")
panels[0].set(ylabel="L2 norm of the change", ylim=(0, None))
panels[0].set_title("binary search", color=INK)
panels[1].set_title("multiplier", color=INK)
panels[1].legend(frameon=False)

# %% [markdown]
# ## The boundary, along a line
#
# From each clean image through its adversarial one and as far again beyond. The margin is by how many logits the
# network is fooled: negative on this side of the boundary, positive on the other. If an example is as near as its
# direction allows, its line crosses zero exactly at 1.

# %%
share = np.linspace(0, 2, 101)


@jax.jit
def margins_along(x, end, goal):
    """The margin at x + share·(end - x), for every share."""
    return jax.vmap(lambda t: cw.metrics.margins(model, x + t * (end - x), goal))(jnp.asarray(share, x.dtype))


figure, panels = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
crossings = {}
for axes, name, found in ((panels[0], "binary search", slow), (panels[1], "multiplier", quick)):
    margin = np.asarray(margins_along(x, found.x, goal))
    crossings[name] = share[(margin > 0).argmax(0)]
    axes.plot(share, margin, color=BLUE, linewidth=1, alpha=0.8)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.axvline(1, color=ORANGE, linewidth=1.5)
    axes.set_title(name, color=INK)
    plain(axes, "share of the way to the adversarial image", "")
panels[0].set_ylabel("margin in logits")
for name, where in crossings.items():
    print(f"{name}: fooled from {where.min():.2f} to {where.max():.2f} of the way on")

# %% [markdown]
# ## The boundary, in two dimensions
#
# A slice through image space: the clean image in the middle, to the right the closest adversarial image that the fast
# attack found. The second direction leads, on the left, to the closest image of yet another class, so that two
# boundaries meet the slice; on the right it is drawn at random. Colours are the network's answers, thin lines those
# of equal margin, two logits apart. The circle has the radius of the best distance: around a smallest perturbation no
# other colour may enter it.

# %%
source, closest = x[DIGIT], quick.x[DIGIT]
towards, _ = run_fast(model, keys, np.repeat(source[None], 10, axis=0), cw.targeted(np.arange(10)))
third = np.asarray(towards.distance).copy()
third[[labels[DIGIT], int(model(closest).argmax())]] = np.inf
third = int(third.argmin())

radius = float(quick.distance[DIGIT])
east = np.asarray(closest - source).ravel() / radius
norths = []
for end in (np.asarray(towards.x[third] - source).ravel(), np.random.default_rng(0).normal(size=east.shape)):
    across = end - (end @ east) * east
    norths.append((across / np.linalg.norm(across)).astype(np.float32))

# %%
side = np.linspace(-2.5 * radius, 2.5 * radius, 61, dtype=np.float32)


@jax.jit
def logits_on(images):
    """The logits all over a slice, and between its points along straight lines."""
    logits = jax.lax.map(model, images, batch_size=512)
    return jax.image.resize(logits.reshape(len(side), len(side), -1), (480, 480, logits.shape[-1]), "linear")


planes = [side[:, None, None] * north + side[None, :, None] * east for north in norths]
slices = [np.asarray(logits_on(source + plane.reshape(-1, *source.shape))) for plane in planes]

# %%
figure, panels = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained")
colors = ListedColormap([*plt.get_cmap("Pastel1").colors, "#c7dcd4"])
edge = side[-1] + (side[1] - side[0]) / 2
angle = np.linspace(0, 2 * np.pi, 200)
for axes, logits in zip(panels, slices, strict=True):
    best_other = np.delete(logits, labels[DIGIT], axis=-1).max(-1)
    margin = best_other - logits[..., labels[DIGIT]]
    extent = (-edge, edge, -edge, edge)
    axes.imshow(logits.argmax(-1), extent=extent, origin="lower", cmap=colors, vmin=-0.5, vmax=9.5)
    axes.contour(margin, np.arange(-40, 40, 2), extent=extent, colors=INK, linewidths=0.5, alpha=0.25, linestyles="-")
    axes.contour(margin, [0], extent=extent, colors=INK, linewidths=1.5)
    axes.plot(radius * np.cos(angle), radius * np.sin(angle), color=INK, linewidth=1, linestyle="--")
    axes.plot(0, 0, "o", color=INK)
    axes.plot(radius, 0, "o", color=ORANGE)
    read = [Patch(color=colors(int(digit)), label=f"read as {digit}") for digit in np.unique(logits.argmax(-1))]
    axes.legend(handles=read, loc="lower left", framealpha=1)
    axes.set_xlabel("towards the closest example, L2")
panels[0].set_ylabel(f"towards the closest {third}, L2")
panels[1].set_ylabel("in a random direction, L2")
inside = np.hypot(*np.meshgrid(*[np.linspace(-edge, edge, 480)] * 2)) < 0.97 * radius
print("answers within the circle:", *(np.unique(logits.argmax(-1)[inside]) for logits in slices))

# %% [markdown]
# In a random direction the boundary is nearly flat, and noise of the same length changes nothing: the few directions
# that matter have to be searched for, and that is what an attack does.
