import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.adapters import NotConvertible
from cwjax.adapters.heads import check_no_probabilities, check_softmax, ends_in, two_logits


def test_a_softmax_is_refused_or_cut():
    assert ends_in("the net", "a softmax", "cut")
    with pytest.raises(NotConvertible, match=r'the net ends in a softmax, and attacks need the logits.*softmax="cut"'):
        ends_in("the net", "a softmax", "refuse")
    with pytest.raises(ValueError, match='"refuse" or "cut", got \'no\''):
        check_softmax("no")


def test_probabilities_are_told_from_logits():
    with pytest.raises(NotConvertible, match="the net returns probabilities"):
        check_no_probabilities(np.asarray([[0.25, 0.75], [1.0, 0.0]]), "the net")
    for logits in ([[0.25, 0.75], [1.0, 0.1]], [[-0.5, 1.5], [0.5, 0.5]], [[0.5], [0.5]]):
        check_no_probabilities(np.asarray(logits), "the net")


def test_one_score_is_two_logits_whose_softmax_is_its_sigmoid():
    scores = jnp.asarray([[2.0], [-1.0]])
    logits = two_logits(scores)
    np.testing.assert_allclose(
        jnp.exp(logits[:, 1]) / jnp.exp(logits).sum(1), 1 / (1 + jnp.exp(-scores[:, 0])), rtol=1e-6
    )
    assert two_logits(logits) is logits
