"""The paper's Figure 2: what the weight c does to the L2 attack with f6.

Claim: the larger c, the likelier the attack succeeds and the farther its examples lie; so the best c is the smallest
that works, which is why the attack searches for it (section V-A).

Command:

    python -m experiments.figure2_constant

Cost: half a minute on 2 cores, one program for all weights, 135,000 gradients in all; the first time a minute more, to
train the network, which takes 200,000.

Expect: success near 0 at c = 0.1 and 100 % from c = 4 up; a mean squared distance that grows with c, past 10 at c = 10.
The paper's numbers stand beside ours: its network succeeds at smaller weights, and its distances grow less steeply.

Writes OUT/figure2.md, figure2.csv and figure2.png. `--examples 1000 --steps 10000` is the paper's size.
"""

import csv
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure

import cwjax as cw
from cwjax.lab.attacking.rows import rows_of
from cwjax.lab.console.progress import progress, say
from cwjax.lab.files import environment, store
from experiments.subject import subject

WEIGHTS = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 10.0, 30.0, 89.0)
# Of Figure 2: weight -> success and mean distance. The distances fit squared norms.
PAPER = {
    0.2: (0.32, 2.94),
    0.5: (0.77, 4.01),
    1.0: (0.94, 4.63),
    2.0: (1.0, 5.31),
    10.0: (1.0, 7.35),
    89.0: (1.0, 10.9),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    data: str = "mnist5k"  # see cwjax.lab.data
    epochs: int = 50  # of the network's training
    examples: int = 30  # test images, each attacked towards one wrong class drawn for it
    steps: int = 500  # gradient steps for each weight
    seed: int = 0  # of the targets
    out: Path = Path("runs/figure2")  # where the results go
    models: Path = Path("runs/models")  # where the trained network is kept


def main(arguments: Arguments) -> list[dict[str, float]]:
    """Runs the experiment; one row for each weight."""
    store.make_folder(arguments.out)
    trained, some = subject(
        arguments.data, epochs=arguments.epochs, examples=arguments.examples, models=arguments.models
    )
    x, goal = jnp.asarray(some.images), rows_of(some, "random", seed=arguments.seed).goal()
    keys = jax.random.split(jax.random.key(0), len(x))

    @jax.jit
    def attacked(model, keys, x, goal, c):
        return cw.batched(cw.l2(search=cw.search.binary_search(1, initial_c=c), steps=arguments.steps))(
            model, keys, x, goal
        )

    rows = []
    with progress("weights", len(WEIGHTS)) as advance:
        for c in WEIGHTS:
            result = attacked(trained.model, keys, x, goal, c)
            squared = np.asarray(result.distance)[np.asarray(result.success)] ** 2
            rows.append(
                {
                    "c": c,
                    "success": float(result.success.mean()),
                    "mean squared L2": float(squared.mean()) if squared.size else float("nan"),
                    "paper success": PAPER.get(c, (float("nan"),) * 2)[0],
                    "paper distance": PAPER.get(c, (float("nan"),) * 2)[1],
                }
            )
            advance(1, f"c = {c}: {rows[-1]['success']:.0%}")
    write(rows, arguments, trained.card)
    return rows


def write(rows: list[dict[str, float]], arguments: Arguments, card: dict) -> None:
    """The table as CSV and Markdown, and the figure."""
    with store.atomically(arguments.out / "figure2.csv") as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    lines = [
        "# Figure 2: success and distance by the weight c",
        "",
        "| " + " | ".join(rows[0]) + " |",
        "|---:" * len(rows[0]) + "|",
    ]
    lines += [
        "| " + " | ".join("–" if np.isnan(value) else f"{value:.3g}" for value in row.values()) + " |" for row in rows
    ]
    lines += [
        "",
        f"{arguments}",
        "",
        f"network: test accuracy {card['test_accuracy']:.2%}; {environment.describe()}",
        "",
    ]
    with store.atomically(arguments.out / "figure2.md") as temporary:
        temporary.write_text("\n".join(lines))

    c, success, distance = (np.array([row[name] for row in rows]) for name in ("c", "success", "mean squared L2"))
    figure = Figure(figsize=(7, 4), dpi=128, layout="constrained")
    left = figure.add_subplot(xscale="log", xlabel="weight c", ylabel="success", ylim=(-0.02, 1.02))
    left.plot(c, success, "o-", color="#0072b2", label="success")
    right = left.twinx()
    right.set(ylabel="mean squared L2 norm of the successes", ylim=(0, 1.1 * np.nanmax([*distance, 1e-3])))
    right.plot(c, distance, "s--", color="#d55e00", label="distance")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    with store.atomically(arguments.out / "figure2.png") as temporary:
        figure.savefig(temporary)
    say(f"Results: {arguments.out / 'figure2.md'}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
