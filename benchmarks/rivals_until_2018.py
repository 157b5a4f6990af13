"""FGSM, PGD, BIM, MI-FGSM, DeepFool, JSMA and EAD by cwjax and by a public implementation, image by image.

Claim: at the same budget each is as good as the public one, and where the recipe is the same to the letter, so are the
images.

    python -m benchmarks.rivals_until_2018                      # 20 digits: two minutes on 2 cores
    python -m benchmarks.rivals_until_2018 --only ead jsma-z

Network and images are those of `benchmarks.peers`. JSMA and EAD aim at the class after the image's own, the others
leave it. Attacks of a fixed radius are compared by the last point that they come to, the others by what they return:
distances are those of the images that each fools; `same` is the share of the images where both agree on success and,
where both succeed, on the distance within 1 % (5 %); `ratio` is the median of ours over theirs; `off` is the largest
difference of two pixels in the median image.
"""

# pyright: reportMissingImports=false, reportPrivateImportUsage=false
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import cwjax as cw
from benchmarks import peers
from benchmarks.libraries import art_classifier, attacks_of
from cwjax.attacks.deepfool import deepfool
from cwjax.attacks.ead import ead
from cwjax.attacks.fgsm import fgsm
from cwjax.attacks.jsma import jsma_f, jsma_z
from cwjax.attacks.mifgsm import mifgsm
from cwjax.attacks.pgd import bim, pgd
from cwjax.parts.distances import DISTANCES


@dataclasses.dataclass(frozen=True)
class Arguments:
    examples: int = 20
    only: tuple[str, ...] = ()  # these alone; all by default


def foolbox(name: str, epsilon: float | None = None, **settings) -> Callable[..., Any]:
    def attack(net, images, labels, targets, steps):
        import foolbox as fb

        model = fb.PyTorchModel(net, bounds=(0, 1), device="cpu")
        aims = name.startswith("EAD")
        criterion = fb.criteria.TargetedMisclassification(targets) if aims else fb.criteria.Misclassification(labels)
        told = settings if name.endswith("FastGradientAttack") else {"steps": steps, **settings}
        return getattr(fb.attacks, name)(**told)(model, images, criterion, epsilons=epsilon)[1]

    return attack


def adv_lib(name: str, **settings) -> Callable[..., Any]:
    def attack(net, images, labels, targets, steps):
        return getattr(attacks_of("adv_lib"), name)(net, images, labels, steps=steps, **settings)

    return attack


def torchattacks(name: str, *, targeted: bool = False, **settings) -> Callable[..., Any]:
    def attack(net, images, labels, targets, steps):
        import torchattacks as ta

        attack = getattr(ta, name)(net, **settings)
        if targeted:
            attack.set_mode_targeted_by_label(quiet=True)
        return attack(images, targets if targeted else labels)

    return attack


def art_saliency(net, images, labels, targets, steps):
    import torch
    from art.attacks.evasion import SaliencyMapMethod

    softmax = torch.nn.Sequential(net, torch.nn.Softmax(1))
    classifier = art_classifier(softmax, torch.nn.NLLLoss(), images, 10)
    attack = SaliencyMapMethod(classifier, theta=1.0, gamma=1.0, batch_size=len(images), verbose=False)
    return attack.generate(images.numpy(), torch.nn.functional.one_hot(targets, 10).numpy())


def last_point(attack: cw.Attack, steps: int, model, keys, x, goal) -> np.ndarray:
    """Where an attack has come to after `steps` moves, images [B, *S]."""
    begin, advance, _ = cw.lanes(attack)
    states = jax.jit(lambda model: advance(model, x, goal, begin(keys, x, goal), steps))(model)
    return np.asarray(states.w)  # of a projected box: the image itself


EPSILON = 0.2
FIXED = {  # name: (ours, theirs, norm, moves)
    "fgsm": (fgsm(epsilon=EPSILON), foolbox("LinfFastGradientAttack", EPSILON), "linf", 1),
    "fgsm l2": (fgsm(epsilon=3.0, norm="l2"), foolbox("L2FastGradientAttack", 3.0), "l2", 1),
    "pgd": (
        pgd(epsilon=EPSILON, random_start=False),
        foolbox("LinfProjectedGradientDescentAttack", EPSILON, random_start=False),
        "linf",
        20,
    ),
    "pgd l2": (
        pgd(epsilon=2.0, norm="l2", relative_step=0.1, random_start=False),
        foolbox("L2ProjectedGradientDescentAttack", 2.0, rel_stepsize=0.1, random_start=False),
        "l2",
        20,
    ),
    "pgd l1": (
        pgd(epsilon=20.0, norm="l1", relative_step=0.1, random_start=False),
        foolbox("L1ProjectedGradientDescentAttack", 20.0, rel_stepsize=0.1, random_start=False),
        "l1",
        20,
    ),
    "bim": (bim(epsilon=EPSILON), foolbox("LinfBasicIterativeAttack", EPSILON), "linf", 10),
    "mifgsm": (
        mifgsm(epsilon=EPSILON),
        torchattacks("MIFGSM", eps=EPSILON, alpha=EPSILON / 10, steps=10),
        "linf",
        10,
    ),
}
LEAST = {  # name: (ours, theirs, norm, steps of theirs, whether it aims at a target)
    "deepfool": (deepfool(), adv_lib("df"), "l2", 50, False),
    "deepfool linf": (deepfool(norm="linf"), adv_lib("df", norm=float("inf")), "linf", 50, False),
    "jsma-z": (jsma_z(), torchattacks("JSMA", targeted=True, theta=1.0, gamma=1.0), "l0", 0, True),
    "jsma-f": (jsma_f(), art_saliency, "l0", 0, True),
    "ead": (
        ead(decision="l1", steps=100, search=cw.search.binary_search(initial_c=0.1), abort=cw.aborts.never()),
        foolbox("EADAttack", decision_rule="L1", regularization=1e-3, initial_const=0.1),
        "l1",
        100,
        True,
    ),
}


def main(arguments: Arguments) -> None:
    """Prints the table as Markdown."""
    model, x, labels, targets = peers.subject(peers.Arguments(examples=arguments.examples))
    x, keys = jnp.asarray(x), jax.random.split(jax.random.key(0), len(x))
    print(
        "| attack | ours: success %, mean | theirs | gradients | theirs | same 1 % | 5 % | ratio | off |\n|"
        + "---|" * 9
    )
    for name in arguments.only or (*FIXED, *LEAST):
        ours, theirs, norm, steps, *aims = (FIXED | LEAST)[name]
        goal = cw.targeted(targets, labels=labels) if any(aims) else cw.untargeted(labels)
        if name in FIXED:
            image, spent = last_point(ours, steps, model, keys, x, goal), steps
        else:
            result = jax.jit(cw.batched(ours))(model, keys, x, goal)
            image, spent = np.asarray(result.x), float(result.backwards.mean())
        told = peers.by_peer(theirs)(model, np.asarray(x), labels, targets, steps)
        images, sizes = (image, told["x"].astype(np.float32)), []
        for found in images:
            hit = np.asarray(cw.metrics.successes(model, jnp.asarray(found), goal))
            size = np.asarray(jax.vmap(DISTANCES[norm].measure)(jnp.asarray(found) - x))
            sizes.append(np.where(hit, size, np.inf))
        a, b = sizes
        ratio = np.where(np.isinf(a) & np.isinf(b), 1, a / b)  # 0 or inf where one alone succeeds
        means = [f"{100 * np.isfinite(d).mean():.0f}, {d[np.isfinite(d)].mean():.4g}" for d in sizes]
        same = [f"{100 * (np.abs(ratio - 1) <= share).mean():.0f}" for share in (0.01, 0.05)]
        off = np.median(np.abs(images[0] - images[1]).reshape(len(x), -1).max(1))
        cells = [name, *means, f"{spent:.4g}", f"{told['backwards'] / len(x):.4g}", *same]
        print("|", " | ".join([*cells, f"{np.median(ratio):.4g}", f"{off:.1e}"]), "|", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
