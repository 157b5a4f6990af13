"""Every part of an attack refuses what it is not made of, when it is made, in one line that names what came."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cwjax as cw

WEIGHTS = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)


def logits(params, x):
    return x.reshape(len(x), 9) @ params


MODEL, X = cw.bind(logits, jnp.asarray(WEIGHTS)), jnp.full((4, 3, 3, 1), 0.5)
GOAL, KEY = cw.untargeted(np.arange(4)), jax.random.key(0)
KEYS = jax.random.split(KEY, 4)
THIRD = np.broadcast_to(np.arange(4).reshape(4, 1, 1, 1) == 2, X.shape)
RUN = cw.batched(cw.fast("l2", steps=2))
RESULT = cw.Result(x=X, **{name: jnp.zeros(4) for name in cw.Result._fields if name != "x"})

CALLS = {
    "cw.bind(WEIGHTS, logits)": "bind takes a function (params, x) -> logits first, got ndarray",
    "cw.normalised(logits, 0, 1)": "from cwjax.bind(apply, params), got a function",
    "cw.normalised(MODEL, 0.5, 0)": "a finite mean and a std above 0, got mean=0.5 and std=0",
    "cw.normalised(MODEL, np.nan, 1)": "a finite mean and a std above 0, got mean=nan",
    "cw.in_precision(MODEL, 'float8')": "unknown precision 'float8': choose one of bfloat16, tensorfloat32, highest",
    "cw.in_precision(logits, 'highest')": "from cwjax.bind(apply, params), got function",
    "cw.targeted([0.5, 1])": "targets must be integers, got float64: pass class numbers",
    "cw.targeted([0, 2**32])": "targets span 0…4294967296, more than 32 bits hold: pass class numbers 0…K-1",
    "cw.untargeted(np.array([1, 2**31], np.uint32))": "labels span 1…2147483648, more than 32 bits hold",
    "cw.untargeted([-(2**40), 1])": "labels span -1099511627776…1, more than 32 bits hold",
    "cw.targeted(3)": "targets must have shape [B], got []",
    "cw.targeted(['cat', 'dog'])": "targets must be integers, got <U3",
    "cw.targeted(None)": "targets must be integers, got object",
    "cw.targeted([0, 1], labels=[0, 2])": "the target equals the label in 1 of 2 examples, first in example 0",
    "cw.targeted([0, 1], labels=[0, 2, 3])": "labels [3] and targets [2] differ in shape",
    "cw.untargeted(np.eye(5, dtype=int))": "one-hot rows: labels.argmax(-1)",
    "cw.untargeted([True, False])": "labels must be integers, got bool",
    "cw.l2(steps=0)": "steps must be at least 1, got 0",
    "cw.l2(steps=2.5)": "steps must be a whole number, got 2.5",
    "cw.l2(steps='many')": "steps must be one number, got the text 'many'",
    "cw.l2(steps=None)": "steps must be one number, got None",
    "cw.l2(steps=np.array([1, 2]))": "steps must be one number, got an array of shape [2]",
    "cw.l2(objective='f6')": "objective must be of the type cwjax.Objective, got the text 'f6'",
    "cw.l2(objective=cw.objectives.logit_margin)": "got the function logit_margin, and not what it returns",
    "cw.l2(box='tanh')": "box must be of the type cwjax.Box, got the text 'tanh'",
    "cw.l2(box=cw.boxes.projected)": "got the function projected, and not what it returns",
    "cw.l2(optimizer='adam')": "optimizer must be of the type optax.GradientTransformation, got the text 'adam'",
    "cw.l2(optimizer=optax.adam)": "got the function adam, and not what it returns",
    "cw.l2(search=9)": "search must be of the type cwjax.Search, got 9",
    "cw.l2(search=cw.search.binary_search)": "got the function binary_search, and not what it returns",
    "cw.l2(abort=True)": "abort must be of the type cwjax.Abort, got True",
    "cw.linf(search='tau')": "search must be of the type cwjax.Search, got the text 'tau'",
    "cw.l0(box=0.1)": "box must be of the type cwjax.Box, got 0.1",
    "cw.lbfgs(steps=-1)": "steps must be at least 1, got -1",
    "cw.lbfgs(objective=7)": "objective must be of the type cwjax.Objective, got 7",
    "cw.search.binary_search(0)": "the search's steps must be at least 1, got 0",
    "cw.search.binary_search('9')": "the search's steps must be one number, got the text '9'",
    "cw.search.binary_search(3, initial_c=0)": "initial_c must be more than 0, got 0",
    "cw.search.binary_search(3, initial_c=np.nan)": "initial_c must be more than 0, got nan",
    "cw.search.binary_search(3, factor=1)": "factor must be more than 1, got 1",
    "cw.search.shrink_bounds(factor=1.0)": "factor must be at most",
    "cw.attacks.audio_aligned(rate=-1)": "rate must be at least 0, got -1",
    "cw.search.shrink_tau(factor=1.0)": "factor must be at most",
    "cw.search.shrink_mask(initial_c='x')": "initial_c must be one number, got the text 'x'",
    "cw.search.shrink_mask(channel_axis='last')": "must be a whole number such as -1 or 0, got the text 'last'",
    "cw.search.shrink_mask(per_pixel=False, channel_axis=0)": "counts elements: leave out channel_axis=0",
    "cw.distances.l0(channel_axis=1.0)": "channel_axis must be a whole number such as -1 or 0, got 1.0",
    "cw.distances.l0(channel_axis=True)": "channel_axis must be a whole number such as -1 or 0, got True",
    "cw.distances.l0(per_pixel=False, channel_axis=-1)": "counts elements: leave out channel_axis=-1",
    "cw.metrics.norms(X, X)": "an input of shape [3, 3, 1]? It is not clear: [H, W, C] or [C, H, W]. Pass channel_axis",
    "cw.batched(cw.l0(steps=2))(MODEL, KEYS, X, GOAL)": "It is not clear: [H, W, C] or [C, H, W]. Pass channel_axis=-1",
    "cw.objectives.logit_margin(-1)": "confidence must be at least 0, got -1",
    "cw.objectives.logit_margin('1')": "confidence must be one number, got the text '1'",
    "RUN(MODEL, KEYS, X, GOAL, low=1, high=0)": "finite, with low <= high, and somewhere below it: got [1, 0]",
    "RUN(MODEL, KEYS, X, GOAL, low=np.nan)": "finite, with low <= high, and somewhere below it: got [nan, 1.0]",
    "RUN(MODEL, KEYS, X, GOAL, low='0')": "low must be a number or an array of numbers, got the text '0'",
    "RUN(MODEL, KEYS, X, GOAL, low=np.zeros(7))": "low of shape [7] broadcasts neither to one input [3, 3, 1] nor to",
    "RUN(MODEL, KEYS, X, GOAL, mask=[True])": "mask must be boolean, True where an element may change, got list",
    "RUN(MODEL, KEYS, X, GOAL, mask=np.array([0, 1, 1]))": "boolean, True where an element may change, got int64",
    "RUN(MODEL, KEYS, X, GOAL, mask=np.zeros((3, 1), bool))": "mask is False everywhere: no element may change",
    "RUN(MODEL, KEYS, X, GOAL, low=X, high=X + 0.5 * THIRD, mask=~THIRD)": "no element that may change in any of 4",
    "RUN(MODEL, KEYS, X.at[1, 2].set(np.nan), GOAL)": "3 of 36 elements of x are NaN or infinite, first x[1, 2, 0, 0]",
    "RUN(MODEL, KEYS, X, GOAL, start=X.at[1, 2].set(np.inf))": "elements of start are NaN or infinite, first start[1",
    "RUN(MODEL, KEYS, X, GOAL, start=np.nan)": "1 of 1 elements of start are NaN or infinite",
    "cw.streamed(cw.l2(), width=2)(MODEL, KEYS, X * np.nan, GOAL)": "36 of 36 elements of x are NaN or infinite",
    "cw.chunked(RUN, 2)(MODEL, KEYS, X * np.nan, GOAL)": "36 of 36 elements of x are NaN or infinite",
    "cw.goals.value_left([0.5, np.nan], 0.1)": "1 of 2 elements of value are NaN or infinite, first value[1]",
    "RUN(MODEL, KEYS, X, cw.untargeted([0, 1, 2, 5]))": "labels span 0…5, but the model has classes 0…4",
    "RUN(MODEL, KEYS, X, cw.targeted([0, 1, 2, -1]))": "labels span -1…2, but the model has classes 0…4",
    "cw.chunked(RUN, 2)(MODEL, KEYS, X, cw.untargeted([0, 1, 2, 5]))": "labels span 0…5, but the model has classes 0…4",
    "RUN(MODEL, KEYS, X, GOAL, start='random')": "start must be a number or an array of numbers, got the text 'random'",
    "RUN(MODEL, KEYS, X, GOAL, lower=0)": "a runner takes low, high, mask, start, context by name, got lower",
    "cw.fast('l2', steps=2.5)": "steps must be a whole number, got 2.5",
    "cw.fast('linf', objective=3)": "objective must be of the type cwjax.Objective, got 3",
    "cw.fast('l7')": "norm must be one of l2, linf, l1, l0, got 'l7'",
    "cw.attacks.fast.slide.slide('l1', None, None)": "norm must be one of linf, l2, got 'l1'",
    "cw.attacks.fast.shrink.shrink('linf', 9)": "norm must be one of l2, l1, l0, got 'linf'",
    "cw.attacks.fast.scout.scouted('l7', None, None, None)": "norm must be one of linf, l2, got 'l7'",
    "cw.fast('l1', objective='f6')": "objective must be of the type cwjax.Objective, got the text 'f6'",
    "cw.fast('l0', distance='l0')": "distance must be of the type cwjax.Distance, got the text 'l0'",
    "cw.attacks.pgd(epsilon=-1)": "epsilon must be more than 0, got -1",
    "cw.attacks.pgd(epsilon=0.1, norm='l3')": "norm must be one of l1, l2, linf, got 'l3'",
    "cw.attacks.bim(epsilon=None)": "epsilon must be one number, got None",
    "cw.attacks.fgsm(epsilon=0.1, norm=2)": "norm must be one of l1, l2, linf, got 2",
    "cw.restarted(cw.l2, 3, 0.1)": "attack must be of the type cwjax.Attack, got the function l2",
    "cw.restarted(cw.l2(), 3, -1)": "radius must be at least 0, got -1",
    "cw.best_target(cw.l2(), 1)": "num_classes must be at least 2, got 1",
    "cw.best_of(cw.l2(), 4)": "spread must be of the type cwjax.Spread, got 4",
    "cw.minimised(cw.attacks.pgd)": "attack must be of the type cwjax.Attack, got the function pgd",
    "cw.confident(cw.l2, 1)": "attack must be of the type cwjax.Attack, got the function l2",
    "cw.confident(cw.l2(), -1)": "confidence must be at least 0, got -1",
    "cw.attacks.fast.legs.in_legs(None, steps=0, legs=1)": "steps must be at least 1, got 0",
    "cw.batched('l2')": "attack must be of the type cwjax.Attack, got the text 'l2'",
    "cw.batched(cw.l2)": "attack must be of the type cwjax.Attack, got the function l2",
    "cw.traced(cw.l2(), 0)": "num_steps must be at least 1, got 0",
    "cw.chunked(RUN, 2.5)": "the size of a chunk must be a whole number, got 2.5",
    "cw.chunked(cw.l2(), 4)": "the runner must be a function such as cwjax.batched(attack), got Attack",
    "cw.sharded(RUN, None)": "mesh must be of the type jax.Mesh, got None",
    "cw.streamed('l2')": "a cwjax.Attack or a function that makes one, got 'l2'",
    "cw.streamed(cw.l2(), width='wide')": "width must be one number, got the text 'wide'",
    "cw.verified(cw.l2())": "the runner must be a function such as cwjax.batched(attack), got Attack",
    "cw.discretised(RUN, levels=1)": "levels must be at least 2, got 1",
    "cw.discretised(lambda *given: None, terms=3)": "terms must be of the type cwjax.base.Terms, got 3",
    "cw.restored(RUN, looks=0.5)": "looks must be a whole number, got 0.5",
    "cw.runners.snapped(RUN, [0, 1])": "lattice must be of the type cwjax.parts.lattices.Lattice, got",
    "cw.runners.snapped(cw.l2(), cw.lattices.lattice())": "the runner must be a function such as cwjax.batched(attack)",
    "cw.evaluation.fewest_changes(MODEL, X, GOAL, most=5)": "most must be at most 4, got 5",
    "cw.discretised(cw.l2())": "the runner must be a function such as cwjax.batched(attack), got Attack",
    "cw.diagnose(MODEL, cw.fast('l2'), X, GOAL, None, KEY)": "result must be of the type cwjax.Result, got None",
    "cw.diagnose(MODEL, cw.fast('l2'), X, GOAL, RESULT, 0)": "key must come from jax.random.key, got int",
    "cw.diagnose(MODEL, cw.l0(), X, GOAL, RESULT, KEY)": "of shape [3, 3, 1]? It is not clear",
    "cw.distances.l0(channel_axis='C')": "channel_axis must be a whole number",
    "cw.diagnose(MODEL, 'fast_l2', X, GOAL, RESULT, KEY)": "a function that makes one, got 'fast_l2'",
    "cw.diagnose(MODEL, cw.l2, X, GOAL, RESULT, KEY, numbers={'step': 3})": "numbers {'step': 3} do not make",
    "cw.diagnose(MODEL, cw.fast('l2'), X, GOAL, RESULT, KEY, numbers={'steps': 3})": "a function of them",
}
"""What a user may write -> what the answer has to say."""


pytestmark = pytest.mark.usefixtures("as_users_have_it")


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_argument_is_one_line(call):
    names = {"cw": cw, "jax": jax, "np": np, "optax": optax} | globals()
    with pytest.raises((TypeError, ValueError)) as caught:
        eval(call, names)
    assert CALLS[call] in str(caught.value)
    assert "\n" not in str(caught.value)
