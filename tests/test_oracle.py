"""The attack against a plain loop of the paper, written in NumPy float64 with its derivatives by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from tests import problems

COUNT, STEPS, ROUNDS = 10, 200, 9


def oracle(params, x, label, sign, confidence):
    """Carlini & Wagner's L2 attack on one example: released code, section by section. Returns the best L2 norm, steps
    spent.
    """
    arctanh0 = np.arctanh((x.reshape(-1) * 2 - 1) * (1 - 1e-6))
    c, lower, upper, best, spent = 1e-3, 0.0, 1e10, np.inf, 0
    for _ in range(ROUNDS):
        modifier, first, second, previous, found = np.zeros_like(arctanh0), 0.0, 0.0, np.inf, False
        for step in range(STEPS):
            spent += 1
            tanh = np.tanh(arctanh0 + modifier)
            image = tanh / 2 + 0.5
            hidden = np.tanh(image @ params["w1"] + params["b1"])
            logits = hidden @ params["w2"] + params["b2"]
            masked = logits.copy()
            masked[label] = -np.inf
            other = int(masked.argmax())
            lead = sign * (logits[label] - logits[other])
            distance = np.sum((image - x.reshape(-1)) ** 2)
            if lead > confidence:
                found = True
                best = min(best, np.sqrt(distance))
            loss = distance + c * max(0.0, confidence - lead)
            if step % (STEPS // 10) == 0:
                if loss > previous * 0.9999:
                    break
                previous = loss
            by_logits = np.zeros_like(logits)
            if lead < confidence:
                by_logits[label], by_logits[other] = -sign, sign
            by_image = 2 * (image - x.reshape(-1)) + c * params["w1"] @ ((1 - hidden**2) * (params["w2"] @ by_logits))
            gradient = by_image * (1 - tanh**2) / 2
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            corrected = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
            modifier = modifier - 0.01 * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        if found:
            upper = min(upper, c)
        else:
            lower = max(lower, c)
        c = (lower + upper) / 2 if upper < 1e9 else c * 10
    return best, spent


@pytest.mark.parametrize("confidence", [0.0, 2.0])
def test_l2_agrees_with_the_papers_loop(confidence):
    params, x = problems.mlp_params(dtype=np.float64), problems.inputs(COUNT).astype(np.float64)
    goal = problems.goals(cw.bind(problems.mlp, problems.mlp_params()), x.astype(np.float32))
    label, sign = np.asarray(goal.label), np.asarray(goal.sign)
    expected = np.array([oracle(params, x[i], label[i], float(sign[i]), confidence) for i in range(COUNT)])
    with jax.enable_x64(True):
        attack = cw.l2(objective=cw.logit_margin(confidence), steps=STEPS)
        model = cw.bind(problems.mlp, jax.tree.map(jnp.asarray, params))
        result = jax.jit(cw.batched(attack))(
            model, problems.keys(COUNT), jnp.asarray(x), cw.Goal(*map(jnp.asarray, (label, sign)))
        )
        assert result.x.dtype == jnp.float64
    assert np.isfinite(expected[:, 0]).sum() >= COUNT / 2
    np.testing.assert_allclose(result.distance, expected[:, 0], rtol=1e-4)
    np.testing.assert_array_equal(result.forwards, expected[:, 1])
