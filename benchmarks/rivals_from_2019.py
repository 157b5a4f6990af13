"""DDN, FMN, sigma-zero, APGD, PDGD, PDPGD and ALMA by cwjax and by adv-lib, image by image.

Claim: at the same budget each is as good as adv-lib's.

    python -m benchmarks.rivals_from_2019                      # 20 digits: five minutes on 2 cores
    python -m benchmarks.rivals_from_2019 --only ddn "fmn l0"

Network and images are those of `benchmarks.peers`; every attack aims at the class after the image's own, but for
sigma-zero and APGD, which leave it (adv-lib's do nothing else). Means are over the images that each fools; `same` is
the share of the images where both agree on success and, where both succeed, on the distance within 1 % (5 %); `closer`
is the median of ours over theirs. Rounding alone parts sparse attacks, and APGD starts at random.
"""

# pyright: reportMissingImports=false, reportPrivateImportUsage=false
import dataclasses
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import cwjax as cw
from benchmarks import peers
from benchmarks.libraries import attacks_of
from cwjax.attacks.alma import alma
from cwjax.attacks.apgd import apgd
from cwjax.attacks.ddn import ddn
from cwjax.attacks.fmn import fmn
from cwjax.attacks.pdpgd import pdgd, pdpgd
from cwjax.attacks.sigma_zero import sigma_zero
from cwjax.parts.distances import DISTANCES
from cwjax.parts.losses import logits_ratio
from cwjax.search.radius import minimised

STEPS = 100
ORDER = {"l0": 0, "l1": 1, "l2": 2, "linf": float("inf")}


@dataclasses.dataclass(frozen=True)
class Arguments:
    examples: int = 20
    only: tuple[str, ...] = ()  # these alone; all by default


class Rival(NamedTuple):
    ours: cw.Attack
    theirs: Callable[..., Any]  # of adv-lib: (net, images, labels or targets)
    norm: str
    aims: bool = True  # at the class after the image's own; else it leaves that


def adv_lib(name: str, **settings) -> Callable[..., Any]:
    def attack(net, images, labels):
        import torch

        torch.manual_seed(0)
        return operator.attrgetter(name)(attacks_of("adv_lib"))(net, images, labels, **settings)

    return attack


def _aimed(name: str, **settings) -> Callable[..., Any]:
    return adv_lib(name, targeted=True, **settings)


def _apgd(norm: str, epsilon: float) -> Rival:
    ours = minimised(apgd(epsilon=epsilon, norm=norm, objective=logits_ratio(), steps=26), steps=10)
    theirs = adv_lib("auto_pgd.minimal_apgd", norm=ORDER[norm], max_eps=epsilon, n_iter=25, binary_search_steps=10)
    return Rival(ours, theirs, norm, aims=False)


ROWS: dict[str, Rival] = {
    "ddn": Rival(ddn(steps=STEPS), _aimed("ddn", steps=STEPS, levels=None), "l2"),
    **{f"fmn {n}": Rival(fmn(norm=n, steps=STEPS), _aimed("fmn", norm=p, steps=STEPS), n) for n, p in ORDER.items()},
    "sigma_zero": Rival(sigma_zero(steps=200), adv_lib("sigma_zero", num_steps=200), "l0", aims=False),
    "apgd l2": _apgd("l2", 2.0),
    "apgd linf": _apgd("linf", 0.2),
    "pdgd": Rival(pdgd(steps=200), _aimed("pdgd", num_steps=200), "l2"),
    "pdpgd l0": Rival(pdpgd(norm="l0", steps=200), _aimed("pdpgd", norm=0, proximal_operator=23, num_steps=200), "l0"),
    **{
        f"pdpgd {n}": Rival(pdpgd(norm=n, steps=200), _aimed("pdpgd", norm=p, num_steps=200), n)
        for n, p in ORDER.items()
        if n != "l0"
    },
    "alma l1": Rival(alma(norm="l1", steps=200), _aimed("alma", distance="l1", num_steps=200), "l1"),
    "alma l2": Rival(alma(norm="l2", steps=200), _aimed("alma", distance="l2", num_steps=200), "l2"),
}


def main(arguments: Arguments) -> None:
    """Prints the table as Markdown."""
    model, x, labels, targets = peers.subject(peers.Arguments(examples=arguments.examples))
    keys = jax.random.split(jax.random.key(0), len(x))
    print("| attack | ours: success %, mean | gradients | theirs | gradients | same 1 % | 5 % | closer |")
    print("|---" * 8 + "|")
    for name in arguments.only or ROWS:
        rival = ROWS[name]
        goal = cw.targeted(targets, labels=labels) if rival.aims else cw.untargeted(labels)
        result = jax.jit(cw.batched(rival.ours))(model, keys, jnp.asarray(x), goal)
        theirs = peers.by_peer(
            lambda net, x, labels, targets, _, r=rival: r.theirs(net, x, targets if r.aims else labels)
        )
        told = theirs(model, x, labels, targets, 0)
        a, b = (_distances(model, x, image, goal, rival.norm) for image in (result.x, told["x"]))
        both = np.isfinite(a) & np.isfinite(b)
        off = np.abs(np.divide(a, b, where=both, out=np.where(np.isfinite(a) == np.isfinite(b), 1.0, np.inf)) - 1)
        means = [f"{100 * np.isfinite(d).mean():.0f}, {d[np.isfinite(d)].mean():.4g}" for d in (a, b)]
        spent = [f"{float(s):.4g}" for s in (np.mean(result.backwards), told["backwards"] / len(x))]
        cells = [name, means[0], spent[0], means[1], spent[1]]
        cells += [f"{100 * (off <= share).mean():.0f}" for share in (0.01, 0.05)]
        print("| " + " | ".join([*cells, f"{np.median(a[both] / b[both]):.4g}"]) + " |", flush=True)


def _distances(model, x, adversarial, goal, norm: str) -> np.ndarray:
    """The distance of each image, inf where it does not meet its goal."""
    adversarial = jnp.asarray(adversarial, jnp.float32)
    hit = np.asarray(cw.metrics.successes(model, adversarial, goal))
    return np.where(hit, jax.vmap(DISTANCES[norm].measure)(adversarial - x), np.inf)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
