"""Transcripts: the loss of all alignments and of one, and how frames are decoded, against loops over all alignments."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.parts.objectives import aligned_margin, ctc, greedily
from cwjax.parts.objectives.sequences import beam_search, path_of
from tests.parts.objectives.asked import alone, answers, handed, of_one

FRAMES, SYMBOLS = 5, 3
EPS, LEAST = 2.0**-23, 2.0**-103


def said(path, blank: int = 0) -> list[int]:
    """What a symbol for each frame says: repeats as one, blanks left out."""
    return [symbol for symbol, _ in itertools.groupby(path) if symbol != blank]


def all_transcripts(logits: np.ndarray, blank: int = 0) -> dict[tuple[int, ...], float]:
    """The probability of every transcript: the sum over the alignments that say it."""
    logits = np.asarray(logits, np.float64)
    rows = np.exp(logits - np.logaddexp.reduce(logits, 1, keepdims=True))
    total: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(rows.shape[1]), repeat=len(rows)):
        key = tuple(said(path, blank))
        total[key] = total.get(key, 0) + float(np.prod([row[symbol] for row, symbol in zip(rows, path, strict=True)]))
    return total


def transcripts(blank: int = 0) -> tuple[list[list[int]], list[int]]:
    """Every transcript of one to three symbols with every number of frames that can say it."""
    symbols = [each for each in range(SYMBOLS) if each != blank]
    rows, frames = [], []
    for length in (1, 2, 3):
        for row in itertools.product(symbols, repeat=length):
            needed = length + sum(one == next for one, next in itertools.pairwise(row))
            for count in range(needed, FRAMES + 1):
                rows.append(list(row))
                frames.append(count)
    return rows, frames


def some_logits(count: int, seed: int = 4, scale: float = 2.0, symbols: int = SYMBOLS) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=scale, size=(count, FRAMES, symbols)).astype(np.float32)


def logits_of_one() -> jax.Array:
    return jnp.asarray(some_logits(1)[0])


def of_all_alignments(confidence):
    del confidence
    return ctc()


def of_all_alignments_with_another_blank(confidence):
    del confidence
    return ctc(blank=2)


# CTC.


@pytest.mark.parametrize(("make", "blank"), [(of_all_alignments, 0), (of_all_alignments_with_another_blank, 2)])
def test_the_ctc_loss_is_that_of_all_alignments(make, blank):
    rows, frames = transcripts(blank)
    logits = some_logits(len(rows))
    found = answers(make, logits, cw.goals.transcript(rows, frames=np.array(frames)))
    expected = [
        -np.log(all_transcripts(each[:count], blank)[tuple(row)])
        for each, row, count in zip(logits, rows, frames, strict=True)
    ]
    np.testing.assert_allclose(found.loss, expected, rtol=1e-4, atol=1e-5)
    assert (found.slope[np.arange(FRAMES) >= np.array(frames)[:, None]] == 0).all()
    assert (np.abs(found.slope).max((1, 2)) > 0).all()


@pytest.mark.parametrize(("make", "blank"), [(of_all_alignments, 0), (of_all_alignments_with_another_blank, 2)])
def test_a_transcript_is_met_where_the_best_symbol_of_each_frame_says_it(make, blank):
    rows, frames = transcripts(blank)
    rows, frames = rows * 12, frames * 12
    logits = some_logits(len(rows))
    met = answers(make, logits, cw.goals.transcript(rows, frames=np.array(frames))).met
    heard = [said(each[:count].argmax(-1), blank) for each, count in zip(logits, frames, strict=True)]
    np.testing.assert_array_equal(met, [one == other for one, other in zip(heard, rows, strict=True)])
    assert 10 < met.sum() < len(rows) - 10


def test_a_transcript_by_hand():
    """Two frames, and a probability of 0.4 for each of them to say it: 1 - 0.6² that one of them does."""
    logits, goal = np.log(np.array([[0.6, 0.4], [0.6, 0.4]], np.float32)), of_one(cw.goals.transcript([[1]], frames=2))
    found = alone(of_all_alignments, 0.0, logits, goal)
    assert float(found.loss) == pytest.approx(-np.log(0.64), rel=1e-5)
    assert not found.met  # and yet greedy decoding says nothing
    assert alone(of_all_alignments, 0.0, np.log(np.array([[0.6, 0.4], [0.4, 0.6]], np.float32)), goal).met


def test_what_is_behind_a_transcript_and_its_frames_does_not_matter():
    [logits] = some_logits(1)
    goal = of_one(cw.goals.transcript([[1, 2], [1, 2, 1]], frames=3))
    changed, other = (
        np.concatenate([logits[:3], 50 * logits[:2:-1]]),
        goal._replace(labels=np.array([1, 2, -7], np.int32)),
    )
    one, same = alone(of_all_alignments, 0.0, logits, goal), alone(of_all_alignments, 0.0, changed, other)
    assert (one.loss, one.met) == (same.loss, same.met)


@pytest.mark.parametrize("size", [0.0, 1e4])
def test_the_ctc_loss_and_its_slope_are_finite(size):
    rows, frames = transcripts()
    logits = size * np.tanh(some_logits(len(rows), scale=0.5))
    found = answers(of_all_alignments, logits, cw.goals.transcript(rows, frames=np.array(frames)))
    assert np.isfinite(found.loss).all()
    assert np.isfinite(found.slope).all()
    missed = ~found.met
    assert (np.abs(found.slope[missed]).max((1, 2)) > 0).all()


def test_a_transcript_that_is_very_unlikely_still_has_its_loss_and_a_slope():
    """Twelve symbols, each of them 10,000 nats behind the blank."""
    logits = np.array([[1e4, 0, 0]] * 30, np.float32)
    loss, _, slope = alone(of_all_alignments, 0.0, logits, of_one(cw.goals.transcript([[1, 2] * 6], frames=30)))
    assert float(loss) == pytest.approx(12e4, rel=1e-3)
    assert np.abs(slope).max() > 0


def test_a_symbol_that_there_is_not_cannot_be_said():
    goal = of_one(cw.goals.transcript([[1, SYMBOLS]], frames=FRAMES))
    assert np.isnan(alone(of_all_alignments, 0.0, logits_of_one(), goal).loss)


def test_a_symbol_that_there_is_not_is_never_met():
    logits = 9 * np.eye(SYMBOLS, dtype=np.float32)[[1, 1, 2, 2, 2]]
    for asked, met in ((2, True), (SYMBOLS, False)):
        goal = of_one(cw.goals.transcript([[1, asked]], frames=FRAMES))
        assert alone(of_all_alignments, 0.0, logits, goal).met == met


def test_the_ctc_loss_of_one_example_is_that_of_a_batch():
    rows, frames = transcripts()
    logits, goal = some_logits(len(rows)), cw.goals.transcript(rows, frames=np.array(frames))
    found = answers(of_all_alignments, logits, goal)
    for row in range(0, len(rows), 9):
        loss, met, slope = alone(of_all_alignments, 0.0, logits[row], of_one(goal, row))
        np.testing.assert_allclose(found.loss[row], loss, rtol=1e-5)
        np.testing.assert_allclose(found.slope[row], slope, atol=1e-5)
        assert found.met[row] == met


# One alignment.


def definition(question, confidence: float) -> float:
    (logits, path, weights, frames), total = map(np.asarray, question), 0.0
    for row, symbol, weight in list(zip(logits, path, weights, strict=True))[:frames]:
        raised = confidence + 64 * EPS * np.abs(np.sort(row)[-2:]).max() + LEAST
        total += weight * max(np.delete(row, symbol).max() - row[symbol] + raised, 0)
    return total


@pytest.fixture(scope="module")
def questions():
    """Logits, paths that are near to what they say, weights and frames."""
    generator = np.random.default_rng(5)
    logits = generator.integers(-6, 7, (300, FRAMES, SYMBOLS)).astype(np.float32) / 2
    logits += (logits == logits.max(-1, keepdims=True)) * generator.integers(1, 8, logits.shape)
    path = np.where(generator.random((300, FRAMES)) < 0.9, logits.argmax(-1), generator.integers(0, 3, (300, FRAMES)))
    path[:, 0] = 1 + path[:, 0] % 2
    weights, frames = generator.uniform(0.5, 2, (300, FRAMES)), generator.integers(1, FRAMES + 1, 300)
    rows = [said(each[:count].tolist()) for each, count in zip(path, frames, strict=True)]
    return logits, cw.goals.aligned(cw.goals.transcript(rows, frames=np.array(frames)), path, weights=weights), rows


def test_one_alignment_is_compared_without_promotion_of_ranks(questions):
    logits, goal, _ = questions
    aligned_margin().loss(jnp.asarray(logits[0]), of_one(goal))


@pytest.mark.parametrize("confidence", [0.0, 0.75])
def test_the_loss_of_an_alignment_is_its_definition(questions, confidence):
    logits, goal, _ = questions
    rows = zip(logits.astype(np.float64), goal.path, goal.weights, goal.transcript.frames, strict=True)
    expected = [definition(row, confidence) for row in rows]
    found = answers(aligned_margin, logits, goal, confidence)
    np.testing.assert_allclose(found.loss, expected, rtol=1e-5, atol=1e-6)
    inside = np.arange(FRAMES) < np.asarray(goal.transcript.frames)[:, None]
    top = np.sort(logits, -1)
    agrees = (logits.argmax(-1) == goal.path) & (top[..., -1] - top[..., -2] >= confidence + 1e-3)
    np.testing.assert_array_equal(found.loss == 0, (agrees | ~inside).all(1))
    assert (found.slope[~inside] == 0).all()
    assert (found.slope[agrees] == 0).all()
    assert (np.abs(found.slope[inside & ~agrees]).max(-1) > 0).all()
    assert 10 < (found.loss == 0).sum() < 290


@pytest.mark.parametrize("confidence", [0.0, 0.75])
def test_an_alignment_is_met_where_its_transcript_is_said_along_any_alignment(questions, confidence):
    logits, goal, rows = questions
    found = answers(aligned_margin, logits, goal, confidence)
    top = np.sort(logits.astype(np.float64), -1)
    sure = (top[..., -1] - top[..., -2] >= confidence + 1e-3) | (
        np.arange(FRAMES) >= np.asarray(goal.transcript.frames)[:, None]
    )
    heard = [
        said(each[:count].argmax(-1)) for each, count in zip(logits, np.asarray(goal.transcript.frames), strict=True)
    ]
    same = [one == other for one, other in zip(heard, rows, strict=True)]
    np.testing.assert_array_equal(found.met, sure.all(1) & same)
    assert found.met[found.loss == 0].all()
    assert (found.met & (found.loss > 0)).any()


def test_an_alignment_by_hand():
    logits = np.array([[0.0, 3.0, 1.0], [2.0, 0.0, 1.5], [0.0, 0.0, 4.0]], np.float32)
    goal = cw.goals.aligned(
        cw.goals.transcript([[1, 2]], frames=3), np.array([[1, 1, 2]]), weights=np.array([1.0, 0.5, 2.0])
    )
    found = {confidence: alone(aligned_margin, confidence, logits, of_one(goal)) for confidence in (0.0, 0.75, 3.0)}
    assert float(found[0.0].loss) == pytest.approx(1, abs=1e-4)  # (2 - 0)/2
    assert float(found[3.0].loss) == pytest.approx(1 + 2.5, abs=1e-4)
    assert found[0.0].met  # as 1, blank, 2
    assert not found[0.75].met
    np.testing.assert_allclose(found[0.0].slope[1], [0.5, -0.5, 0], atol=1e-4)


@pytest.mark.parametrize("size", [0.0, 1e4])
def test_the_loss_of_an_alignment_and_its_slope_are_finite(questions, size):
    logits, goal, _ = questions
    found = answers(aligned_margin, size * np.sign(logits), goal)
    assert np.isfinite(found.loss).all()
    assert np.isfinite(found.slope).all()
    assert (np.abs(found.slope[found.loss > 0]).max((1, 2)) > 0).all()


@pytest.mark.parametrize("symbol", [-1, SYMBOLS])
def test_a_path_through_a_symbol_that_there_is_not_cannot_be_followed(symbol):
    goal = of_one(cw.goals.aligned(cw.goals.transcript([[1]], frames=3), np.array([[1, 1, symbol, symbol, 0]])))
    assert np.isnan(alone(aligned_margin, 0.0, logits_of_one(), goal).loss)
    shorter = goal._replace(transcript=goal.transcript._replace(frames=jnp.int32(2)))
    assert np.isfinite(alone(aligned_margin, 0.0, logits_of_one(), shorter).loss)


@pytest.mark.parametrize("scale", [1.0, 1000.0, -1000.0])
def test_a_lead_of_a_frame_within_rounding_does_not_count(scale):
    goal = cw.goals.aligned(cw.goals.transcript([[1]], frames=1), np.ones((1, 1), int))
    ahead = [np.array([[scale, scale + abs(scale) * ulps * EPS]], np.float32) for ulps in (60, 72)]
    found = [alone(aligned_margin, 0.0, logits, of_one(goal)) for logits in ahead]
    assert found[0].loss > found[1].loss == 0
    assert [bool(each.met) for each in found] == [False, True]
    assert [bool(alone(of_all_alignments, 0.0, each, of_one(goal).transcript).met) for each in ahead] == [False, True]


@pytest.mark.long
def test_an_alignment_under_jit_is_what_it_is_alone(questions):
    logits, goal, _ = questions
    found = answers(aligned_margin, logits, goal, 0.5)
    for row in (0, 150):
        loss, slope = jax.value_and_grad(aligned_margin(0.5).loss)(jnp.asarray(logits[row]), of_one(goal, row))
        np.testing.assert_allclose(found.loss[row], loss, rtol=1e-6)
        np.testing.assert_allclose(found.slope[row], slope, rtol=1e-6)
        assert found.met[row] == aligned_margin(0.5).met(jnp.asarray(logits[row]), of_one(goal, row))


def test_the_path_of_an_example_is_an_alignment_of_what_it_says():
    logits = some_logits(20)
    paths = np.stack([path_of(jnp.asarray(each)) for each in logits])
    assert paths.dtype == np.int32
    np.testing.assert_array_equal(paths, logits.argmax(-1))
    rows = [said(path) or [1] for path in paths.tolist()]
    goal = cw.goals.aligned(cw.goals.transcript(rows, frames=2 * FRAMES), paths)
    assert (answers(aligned_margin, logits, goal).loss == 0).all()


# Decoding.


@pytest.mark.parametrize("blank", [0, 2])
def test_greedy_decoding_is_a_loop_over_the_frames(blank):
    generator = np.random.default_rng(6)
    path = generator.choice(4, (300, 7), p=[0.4, 0.3, 0.2, 0.1])
    frames = generator.integers(0, 8, 300)
    symbols, length = jax.jit(jax.vmap(lambda logits, frames: greedily(logits, frames, blank=blank)))(
        jax.nn.one_hot(path, 4), frames
    )
    assert (symbols.dtype, length.dtype) == (jnp.int32, jnp.int32)
    for row, count, found, size in zip(path, frames, np.asarray(symbols), np.asarray(length), strict=True):
        heard = [
            row[frame] for frame in range(count) if row[frame] != blank and (frame == 0 or row[frame] != row[frame - 1])
        ]
        assert found.tolist() == heard + [-1] * (7 - len(heard))
        assert size == len(heard)


@pytest.mark.parametrize("blank", [0, 1])
def test_a_wide_beam_finds_the_likeliest_transcript(blank):
    differ = 0
    for frames, logits in itertools.product((1, 3, 5), some_logits(25, scale=0.7)):
        ranked = sorted(all_transcripts(logits[:frames], blank).items(), key=lambda item: -item[1])
        assert tuple(beam_search(logits[:frames], width=400, blank=blank)) == ranked[0][0]
        differ += said(logits[:frames].argmax(-1), blank) != list(ranked[0][0])
    assert differ > 5


def test_the_likeliest_transcript_need_not_be_that_of_the_likeliest_symbols():
    logits = np.log([[0.6, 0.4], [0.6, 0.4]])
    symbols, length = greedily(jnp.asarray(logits, jnp.float32), 2)
    assert (symbols.tolist(), int(length)) == ([-1, -1], 0)
    assert beam_search(logits) == [1]
    assert beam_search(logits, width=1) == []


# What is refused.


@pytest.mark.parametrize("make", [ctc, aligned_margin])
@pytest.mark.parametrize("shape", [(4,), (4, 1), (2, 4, 3), [(4, 3), (4, 3)]])
def test_outputs_that_are_not_logits_of_every_frame_are_refused(make, shape):
    goal = cw.goals.transcript([[1], [2]], frames=4)
    goal = goal if make is ctc else cw.goals.aligned(goal, np.ones((2, 4), int))
    words = rf"^{make.__name__} reads logits \[T, V\] of T frames with V >= 2 from one input, got \(?float32"
    with pytest.raises(ValueError, match=words):
        handed(make(), shape, goal)


@pytest.mark.parametrize("make", [ctc, aligned_margin])
def test_a_transcript_that_is_longer_than_the_frames_is_refused(make):
    goal = cw.goals.transcript([[1, 2, 1, 2, 1]] * 2, frames=9)
    goal = goal if make is ctc else cw.goals.aligned(goal, np.ones((2, 4), int))
    with pytest.raises(
        ValueError, match=r"^a transcript of up to 5 symbols is longer than the 4 frames of the outputs"
    ):
        handed(make(), (4, 3), goal)


@pytest.mark.parametrize("make", [ctc, aligned_margin])
def test_a_blank_that_is_no_symbol_is_refused(make, as_users_have_it):
    goal = cw.goals.transcript([[1], [2]], frames=4)
    goal = goal if make is ctc else cw.goals.aligned(goal, np.ones((2, 4), int))
    with pytest.raises(ValueError, match=f"^{make.__name__} has blank=3, and the outputs have symbols 0…2$"):
        handed(make(blank=3), (4, 3), goal)
    with pytest.raises(ValueError, match=r"^blank must be at least 0, got -1"):
        make(blank=-1)
    with pytest.raises(ValueError, match=r"^blank must be a whole number, got 0.5"):
        make(blank=0.5)


def test_an_alignment_of_other_frames_is_refused():
    goal = cw.goals.aligned(cw.goals.transcript([[1]], frames=4), np.array([[1, 1, 0]]))
    with pytest.raises(ValueError, match=r"^an alignment of 3 frames does not fit the 4 frames of the outputs$"):
        handed(aligned_margin(), (4, 3), goal)


def test_transcripts_refuse_a_goal_of_another_task_and_a_batch_of_another_size():
    goal = cw.goals.transcript([[1], [2], [1]], frames=4)
    with pytest.raises(TypeError, match=r"^ctc reads a goal of goals.transcript, got AlignedGoal"):
        handed(ctc(), (4, 3), cw.goals.aligned(goal, np.ones((3, 4), int)))
    with pytest.raises(TypeError, match=r"^aligned_margin reads a goal of goals.aligned, got TranscriptGoal"):
        handed(aligned_margin(), (4, 3), goal)
    with pytest.raises(TypeError, match=r"^ctc reads a goal of goals.transcript, got LabelGoal"):
        handed(ctc(), (4, 3), cw.untargeted([1, 2]))
    with pytest.raises(ValueError, match=r"^goal.frames must have one entry an example, 3 of them, got shape \[2\]"):
        handed(ctc(), (4, 3), goal._replace(frames=goal.frames[:2]))


@pytest.mark.parametrize("confidence", [-1.0, np.nan, np.inf])
def test_a_confidence_of_frames_that_is_out_of_range_is_refused(confidence):
    with pytest.raises(ValueError, match=r"^confidence must be at least 0, got"):
        aligned_margin(confidence)


@pytest.mark.parametrize("make", [ctc, aligned_margin])
def test_to_say_a_transcript_is_to_reach_one_place(make):
    goal = cw.goals.transcript([[1]], frames=4)
    assert make().reaches(of_one(goal if make is ctc else cw.goals.aligned(goal, np.ones((1, 4), int))))


def test_a_beam_of_no_width_is_refused():
    with pytest.raises(ValueError, match=r"^width must be at least 1, got 0"):
        beam_search(np.zeros((2, 2)), width=0)


def test_silence_has_one_alignment_all_blanks():
    logits = some_logits(3)
    goal = cw.goals.transcript([[], [], []], frames=np.array([1, 3, 5]), silence=True)
    rows = np.asarray(logits, np.float64)
    expected = -(rows[..., 0] - np.logaddexp.reduce(rows, 2))
    found = answers(of_all_alignments, logits, goal)
    np.testing.assert_allclose(
        found.loss, [each[:n].sum() for each, n in zip(expected, (1, 3, 5), strict=True)], rtol=1e-4
    )
    quiet = np.where(np.arange(SYMBOLS) == 0, 5.0, 0.0) * np.ones((1, FRAMES, 1))
    said_once = np.where(np.arange(FRAMES)[None, :, None] == 2, np.roll(quiet, 1, 2), quiet)
    for rows, met in ((quiet, True), (said_once, False)):
        [answer] = answers(
            of_all_alignments, rows.astype(np.float32), cw.goals.transcript([[]], frames=5, silence=True)
        ).met
        assert bool(answer) == met


def test_a_confidence_is_asked_of_every_frame_and_leaves_the_loss_alone():
    logits = np.zeros((1, FRAMES, SYMBOLS), np.float32)
    logits[0, np.arange(FRAMES), [1, 0, 2, 2, 0]] = [3, 3, 3, 2, 9]
    goal = cw.goals.transcript([[1, 2]], frames=FRAMES)
    weak, strong, plain = (answers(cw.objectives.ctc, logits, goal, confidence) for confidence in (1.9, 2.1, 0.0))
    assert (bool(weak.met[0]), bool(strong.met[0])) == (True, False)
    assert weak.loss == strong.loss == plain.loss
    with pytest.raises(ValueError, match="confidence must be at least 0"):
        ctc(-1.0)
