"""Outputs that are logits of every frame, which are decoded to a transcript (connectionist temporal classification)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from cwjax.arguments import check_count, check_number
from cwjax.base import AnyArray, Goal, Number, Objective, Outputs, shapes
from cwjax.goals import AlignedGoal, TranscriptGoal
from cwjax.parts.objectives.classification import comparable, rounding_margin, two_largest

_IMPOSSIBLE = -1e12  # the logarithm of 0: far below that of anything a network says


def ctc(confidence: Number = 0.0, *, blank: int = 0) -> Objective:
    """The CTC loss of a transcript, in nats: -log of the probability that frames decode to it, over all alignments.

    Outputs are logits [T, V] of T frames and V symbols. The goal comes from `goals.transcript`. It is met where greedy
    decoding gives the transcript and the best symbol of each frame leads by the confidence and more than rounding; the
    loss is then small and never 0. At confidence 0 a beam search often hears something else: ask for a few logits.

    Args:
      confidence: >= 0, in logits; may be traced.
      blank: the symbol that stands for none.

    Raises:
      ValueError: a confidence out of range; at the runner, outputs or a goal of another shape, or a transcript that is
        longer than the frames.

    Example:
      >>> goal = jax.tree.map(lambda leaf: leaf[0], cw.goals.transcript([[1]], frames=2))
      >>> ctc = cw.objectives.ctc()
      >>> round(float(jnp.exp(-ctc.loss(jnp.zeros((2, 2)), goal))), 3)  # three of the four alignments say 1
      0.75

    References:
      Graves et al. 2006, "Connectionist temporal classification: labelling unsegmented sequence data with recurrent
        neural networks", ICML.
      Carlini & Wagner 2018, "Audio adversarial examples: targeted attacks on speech-to-text", section III,
        https://arxiv.org/abs/1801.01944
    """
    check_number("confidence", confidence, least=0)
    check_count("blank", blank, least=0)

    def loss(outputs, goal):
        logits = comparable(outputs)
        beyond = (jnp.arange(logits.shape[0]) >= goal.frames).astype(logits.dtype)
        unused = (jnp.arange(goal.labels.shape[0]) >= goal.length).astype(logits.dtype)
        rows = (logits, beyond, goal.labels, unused)
        value = optax.ctc_loss(*(row[None] for row in rows), blank_id=blank, log_epsilon=_IMPOSSIBLE)[0]
        known = (goal.labels >= 0) & (goal.labels < logits.shape[1]) & (goal.labels != blank)
        return jnp.where((known | (unused > 0)).all(), value, jnp.nan)

    return Objective(
        loss=loss,
        met=lambda outputs, goal: _decodes(outputs, goal, confidence, blank),
        confidence=confidence,
        check=lambda outputs, goal: _check("ctc", TranscriptGoal, outputs, goal, blank),
        reaches=lambda goal: jnp.array(True),
        logits=None,
        check_goals=lambda outputs, goal: _check_transcripts(outputs, goal, blank),
    )


def aligned_margin(confidence: Number = 0.0, *, blank: int = 0) -> Objective:
    """The improved loss of Carlini & Wagner (2018, section IV-B), once an alignment pi of the transcript is known:

        f = Σ_i c_i · max(max_{k≠pi_i} z_i,k - z_i,pi_i + kappa, 0)

    over the frames i, with a weight c_i for each. (The paper prints the difference with the other sign, which would be
    minimised where every frame is wrong; its authors released no code for it.) It is 0 only where every frame of weight
    says what the alignment says, and has no slope in frames that do: CTC goes on lowering them.

    The goal comes from `goals.aligned`; its path may be that of an example that an attack by `ctc` found (`path_of`).

    Args:
      confidence: kappa >= 0, in logits, by which each frame has to lead; raised against rounding; may be traced.
      blank: the symbol that stands for none.

    Raises:
      ValueError: a confidence out of range; at the runner, as for `ctc`, or an alignment of other frames.

    Example:
      >>> goal = cw.goals.aligned(cw.goals.transcript([[1]], frames=2), [[1, 0]])
      >>> one = jax.tree.map(lambda leaf: leaf[0], goal)
      >>> frames = jnp.array([[2.0, 3.0], [1.0, 4.0]])  # the second says 1 and not 0, by 3 logits
      >>> round(float(cw.objectives.aligned_margin().loss(frames, one)), 3)
      3.0

    References:
      Carlini & Wagner 2018, "Audio adversarial examples: targeted attacks on speech-to-text", section IV-B,
        https://arxiv.org/abs/1801.01944
    """
    check_number("confidence", confidence, least=0)
    check_count("blank", blank, least=0)

    def loss(outputs, goal):
        logits = comparable(outputs)
        lag = lags(logits, goal.path, confidence)
        inside = jnp.arange(logits.shape[0]) < goal.frames
        hinged = jnp.where(inside & (lag > 0), goal.weights.astype(lag.dtype) * lag, 0)
        known = jnp.where(inside, (goal.path >= 0) & (goal.path < logits.shape[1]), True).all()
        return jnp.where(known, jnp.sum(hinged), jnp.nan)

    return Objective(
        loss=loss,
        met=lambda outputs, goal: _decodes(outputs, goal.transcript, confidence, blank),
        confidence=confidence,
        check=lambda outputs, goal: _check("aligned_margin", AlignedGoal, outputs, goal, blank),
        reaches=lambda goal: jnp.array(True),
        logits=None,
        check_goals=lambda outputs, goal: _check_paths(outputs, goal, blank),
    )


def lags(logits: Float[Array, "T V"], path: Int[Array, "T"], confidence: Number = 0.0) -> Float[Array, "T"]:
    """By how much the symbol that an alignment has in each frame falls short of a lead by that confidence, or by what
    rounding needs; 0 or less where it does not.
    """
    own = jnp.arange(logits.shape[1])[None] == path[:, None]
    mine = jnp.sum(jnp.where(own, logits, 0), 1)
    return jnp.max(jnp.where(own, -jnp.inf, logits), 1) - mine + confidence + jax.vmap(rounding_margin)(logits)


def path_of(outputs: Float[Array, "T V"]) -> Int[Array, "T"]:
    """The likeliest symbol of each frame, int32: an alignment of whatever they decode to.

    Args:
      outputs: logits [T, V] of frames.

    Example:
      >>> cw.objectives.path_of(jnp.array([[0.0, 1.0], [2.0, 1.0]])).tolist()
      [1, 0]
    """
    return jnp.argmax(outputs, -1).astype(jnp.int32)


def greedily(
    outputs: Float[Array, "T V"], frames: Int[Array, ""] | int, *, blank: int = 0
) -> tuple[Int[Array, "T"], Int[Array, ""]]:
    """The transcript by the likeliest symbol of each frame, repeats as one and blanks left out.

    int32 [T] with -1 behind its end, and its length.

    Args:
      outputs: logits [T, V] of frames.
      frames: how many of them count.
      blank: the symbol that stands for none.

    Returns:
      The symbols [T], and how many there are [].

    Example:
      >>> said, length = cw.objectives.greedily(jnp.eye(3)[jnp.array([1, 1, 0, 1, 2])], 5)
      >>> said.tolist(), int(length)
      ([1, 1, 2, -1, -1], 3)
    """
    path = path_of(outputs)
    before = jnp.concatenate([jnp.full(1, blank, jnp.int32), path[:-1]])
    kept = (path != blank) & (path != before) & (jnp.arange(path.size) < frames)
    place = jnp.where(kept, jnp.cumsum(kept) - 1, path.size)
    return jnp.full(path.size, -1, jnp.int32).at[place].set(path, mode="drop"), kept.sum().astype(jnp.int32)


def beam_search(logits: Float[np.ndarray, "T V"], *, width: int = 16, blank: int = 0) -> list[int]:
    """The likeliest transcript over all alignments, by a prefix beam search.

    In NumPy, without a language model, for a second look at what greedy decoding says.

    Args:
      logits: of the frames that count.
      width: transcripts that are kept after each frame, >= 1.
      blank: the symbol that stands for none.

    Example:
      >>> frames = np.log([[0.6, 0.4], [0.6, 0.4]])  # the blank is likelier in each frame
      >>> cw.objectives.beam_search(frames)  # but a 1 somewhere is likelier than two blanks: 0.64 to 0.36
      [1]

    References:
      Graves & Jaitly 2014, "Towards end-to-end speech recognition with recurrent neural networks", ICML.
      Hannun et al. 2014, "First-pass large vocabulary continuous speech recognition using bi-directional recurrent
        DNNs", algorithm 1, https://arxiv.org/abs/1408.2873
    """
    check_count("width", width)
    values = np.asarray(logits, np.float64)
    rows = values - np.logaddexp.reduce(values, axis=1, keepdims=True)
    beams = {(): (0.0, -np.inf)}  # transcript -> log-probability that it ends in a blank, and that it does not
    for row in rows:
        after: dict[tuple[int, ...], tuple[float, float]] = {}

        def add(prefix, ends_blank, ends_symbol, after=after):
            old = after.get(prefix, (-np.inf, -np.inf))
            after[prefix] = (np.logaddexp(old[0], ends_blank), np.logaddexp(old[1], ends_symbol))

        for prefix, (quiet, spoken) in beams.items():
            both = np.logaddexp(quiet, spoken)
            add(prefix, both + row[blank], -np.inf)
            for symbol in range(len(row)):
                if symbol == blank:
                    continue
                if prefix and prefix[-1] == symbol:
                    add(prefix, -np.inf, spoken + row[symbol])  # the same one, held
                    add((*prefix, symbol), -np.inf, quiet + row[symbol])
                else:
                    add((*prefix, symbol), -np.inf, both + row[symbol])
        best = sorted(after.items(), key=lambda item: -np.logaddexp(*item[1]))
        beams = dict(best[:width])
    return list(max(beams.items(), key=lambda item: np.logaddexp(*item[1]))[0])


def _decodes(outputs, goal, confidence, blank):
    """Whether greedy decoding gives the goal's transcript, every frame leading by that and more than rounding."""
    said, length = greedily(outputs, goal.frames, blank=blank)
    size = min(said.size, goal.labels.size)
    wanted = jnp.arange(size) < goal.length
    same = (
        (length == goal.length)
        & (goal.length <= size)
        & jnp.where(wanted, said[:size] == goal.labels[:size], True).all()
    )
    logits = comparable(outputs)
    first, second = jax.vmap(two_largest)(logits)
    sure = first - second >= confidence + jax.vmap(rounding_margin)(logits)
    return same & jnp.where(jnp.arange(logits.shape[0]) < goal.frames, sure, True).all()


def _check(name: str, kind: type, outputs: Outputs, goal: Goal, blank: int) -> None:
    maker = "goals.transcript" if kind is TranscriptGoal else "goals.aligned"
    if not isinstance(goal, kind):
        raise TypeError(f"{name} reads a goal of {maker}, got {shapes(goal)}")
    if not hasattr(outputs, "shape") or len(outputs.shape) != 2 or outputs.shape[1] < 2:
        raise ValueError(f"{name} reads logits [T, V] of T frames with V >= 2 from one input, got {shapes(outputs)}")
    frames, symbols = outputs.shape
    labels = goal.labels.shape[0] if isinstance(goal, TranscriptGoal) else goal.transcript.labels.shape[0]
    if blank >= symbols:
        raise ValueError(f"{name} has blank={blank}, and the outputs have symbols 0…{symbols - 1}")
    if labels > frames:
        raise ValueError(f"a transcript of up to {labels} symbols is longer than the {frames} frames of the outputs")
    if isinstance(goal, AlignedGoal) and goal.path.shape[0] != frames:
        raise ValueError(f"an alignment of {goal.path.shape[0]} frames does not fit the {frames} frames of the outputs")


def _check_transcripts(outputs: Outputs, goal: TranscriptGoal, blank: int) -> None:
    """Raises ValueError where a transcript has a symbol that the outputs have not, or more frames than they."""
    frames, symbols = outputs.shape
    inside = np.arange(goal.labels.shape[1]) < goal.length[:, None]
    _refuse("the transcript", goal.labels, inside & ((goal.labels < 0) | (goal.labels >= symbols)), symbols)
    silent = np.flatnonzero((inside & (goal.labels == blank)).any(1))
    if silent.size:
        raise ValueError(
            f"the transcript of example {silent[0]} has the symbol {blank}, which is the blank: leave it out"
        )
    longer = np.flatnonzero(goal.frames > frames)
    if longer.size:
        raise ValueError(f"example {longer[0]} has {goal.frames[longer[0]]} frames, and the outputs have {frames}")


def _check_paths(outputs: Outputs, goal: AlignedGoal, blank: int) -> None:
    """Raises ValueError likewise, or where an alignment has such a symbol."""
    _check_transcripts(outputs, goal.transcript, blank)
    inside = np.arange(outputs.shape[0]) < goal.transcript.frames[:, None]
    _refuse("the alignment", goal.path, inside & ((goal.path < 0) | (goal.path >= outputs.shape[1])), outputs.shape[1])


def _refuse(what: str, said: AnyArray, bad: np.ndarray, symbols: int) -> None:
    """Raises ValueError where symbols that an example names are marked as bad."""
    if bad.any():
        example, place = map(int, np.argwhere(bad)[0])
        raise ValueError(
            f"{what} of example {example} has the symbol {said[example, place]}, and the outputs have symbols "
            f"0…{symbols - 1}"
        )
