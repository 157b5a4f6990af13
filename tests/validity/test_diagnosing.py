"""Every check raises its flag where it should, and none where all is well."""

import functools, json
import jax, jax.numpy as jnp, numpy as np, pytest
import cwjax as cw
from cwjax.validity import diagnosing
from tests import problems
from tests.validity import tricks


@functools.cache
def _run(make):
    return jax.jit(lambda numbers, model, keys, x, goal: cw.batched(make(**numbers))(model, keys, x, goal))


@functools.cache
def diagnosed(apply=tricks.clean, make=tricks.attack, tamper=False, **changes):
    numbers = tricks.WELL | changes
    model, x, goal = (
        tricks.model(apply),
        jnp.asarray(tricks.X),
        cw.untargeted(
            np.asarray(tricks.model(apply).apply(jnp.int32(tricks.MODELS.index(apply)), jnp.asarray(tricks.X))).argmax(
                1
            )
        ),
    )
    result = _run(make)(numbers, model, problems.keys(len(x)), x, goal)
    longer = numbers | {"steps": 2 * numbers["steps"]}
    return cw.diagnose(model, make, x, goal, result, jax.random.key(5), numbers=numbers, longer=longer, box=tricks.BOX)


@pytest.mark.parametrize("apply", tricks.MODELS)
def test_m(apply):
    import time

    t = time.time()
    d = diagnosed(apply)
    print("\n##", apply.__name__, time.time() - t, d.named("fail"), d.named("warn"))
    for n in d.named("fail", "warn", "skipped"):
        print("    ", d.checks[n].line())
    json.dumps(d.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 4},
        {"steps": 30},
        {"initial_c": 1e-9},
        {"learning_rate": 20.0},
        {"make": tricks.forgetful},
        {"saturating": 1.0, "apply": tricks.huge_logits},
    ],
)
def test_a(changes):
    d = diagnosed(**changes)
    print("\n##", changes, d.named("fail"), d.named("warn"))
    for n in d.named("fail", "warn", "skipped"):
        print("    ", d.checks[n].line())
