"""`cwjax race`, with the attacks of other libraries as well: same weights, same images, same propagations.

    pip install torch foolbox; pip install --no-deps adv-lib torchattacks adversarial-robustness-toolbox
    python -m benchmarks.race --model zoo:mnist_cnn --norm l2 --budgets 1000 2000 --attack fast_l2 ddn adv-lib.ddn

Their steps are as many as the budget can pay for, by the costs that AttackBench has found: a fixed 40 steps a round for
the L-infinity attack, nine rounds for L2. Passes are counted in the module that they attack, which refuses what is
beyond the budget. Settings are each library's own, but for those that AttackBench changes. Libraries that are not
installed are left out.
"""

# pyright: reportMissingImports=false, reportPrivateImportUsage=false
import importlib.util
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.libraries import art_classifier, attacks_of
from cwjax.lab.console.progress import say
from cwjax.lab.files import compiling
from cwjax.lab.racing import entries, racing
from cwjax.lab.racing.contestants import Broken, Contestant, Outcome, Task
from cwjax.lab.subjects import AUTO, subject_of

Call = Callable[..., Any]  # (bridge, images, labels or targets, *, norm, targeted, budget, classes) -> images

LIBRARIES = {  # module -> package
    "adv_lib": "adv-lib",
    "foolbox": "foolbox",
    "torchattacks": "torchattacks",
    "art": "adversarial-robustness-toolbox",
}
_ORDERS = {"l0": 0, "l0_elements": 0, "l1": 1, "l2": 2, "linf": np.inf}  # as they name the norms
_RADIUS = {"l1": 20.0, "l2": 2.0, "linf": 0.2}  # the first of the search; the farthest is twice as far


def foreign(module: str, call: Call, *norms: str, targeted: bool = True) -> Contestant:
    """Another library's attack as a contestant."""

    def run(task: Task) -> Outcome:
        import torch

        from benchmarks.bridge import Bridge

        torch.set_num_threads(1)  # the network runs by JAX, and the rest is too little to share
        torch.manual_seed(task.seed)
        bridge = Bridge(task)
        labels = torch.from_numpy((task.target if task.targeted else task.label).astype(np.int64)).to(bridge.device)
        told = {"norm": _ORDERS[task.norm], "targeted": task.targeted, "budget": task.budget, "classes": task.classes}
        with compiling.timed() as compiled, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they deprecate is no concern of ours
            attacks_of(module)
            began = time.monotonic()
            try:
                adversarial = call(bridge, bridge.images.clone(), labels, **told)
            except Exception as error:  # whatever another library may raise
                raise Broken(f"{type(error).__name__}: {error}") from error
            seconds = time.monotonic() - began
        x = np.clip(np.nan_to_num(bridge.back(adversarial), nan=0.0), 0, 1)
        return Outcome(
            x=x,
            forwards=bridge.forwards,
            backwards=bridge.backwards,
            refused=bridge.refused,
            watched=np.arange(len(task.x)),
            queried=bridge.queried,
            curve=np.zeros((len(task.x), 0), np.float32),
            seconds=seconds - sum(compiled),
            compiling=sum(compiled),
        )

    kinds = ("untargeted", "targeted") if targeted else ("untargeted",)
    return Contestant(norms, run, kinds, source=LIBRARIES[module])


def _steps(name: str, steps: str, **settings: Any) -> Call:
    """An attack of adv-lib that takes one gradient a step, and the setting that is its number of steps."""

    def call(model, x, labels, *, norm, targeted, budget, classes):
        given = {key: value(norm) if callable(value) else value for key, value in settings.items()}
        return getattr(attacks_of("adv_lib"), name)(
            model, x, labels, targeted=targeted, **{steps: budget // 2}, **given
        )

    return call


def _carlini_l2(model, x, labels, *, norm, targeted, budget, classes):
    steps = max(budget // 18, 1)
    return attacks_of("adv_lib").carlini_wagner_l2(
        model, x, labels, targeted=targeted, max_iterations=steps, abort_early=steps >= 10
    )


def _carlini_linf(model, x, labels, *, norm, targeted, budget, classes):
    steps = min(40, max(budget // 50, 1))
    return attacks_of("adv_lib").carlini_wagner_linf(model, x, labels, targeted=targeted, max_iterations=steps)


def _apgd(model, x, labels, *, norm, targeted, budget, classes):
    from adv_lib.attacks.auto_pgd import minimal_apgd

    rounds = 10 if budget >= 200 else 4
    radius = _RADIUS[{1: "l1", 2: "l2"}.get(norm, "linf")]
    steps = max((budget // rounds - 3) // 2, 1)  # a round: so many gradients, one more at its start, one look
    large: dict[str, Any] = {"use_large_reps": True} if norm == 1 and steps >= 10 else {}
    if large:
        steps -= 2  # each of its three phases has a gradient at its start
    return minimal_apgd(model, x, labels, norm, radius, binary_search_steps=rounds, n_iter=steps, **large)


def _fab(model, x, labels, *, norm, targeted, budget, classes):
    # A step is two forward passes, and a backward one for each class but one.
    return attacks_of("adv_lib").fab(model, x, labels, norm, n_iter=max((budget - 1) // (classes + 1), 1))


def _superdeepfool(model, x, labels, *, norm, targeted, budget, classes):
    # A round is a run of DeepFool, whose steps are as many passes as there are classes, and two passes more. Of two
    # steps a run, more rounds could be paid for than are ever taken; whatever is beyond the budget is refused.
    search = min(10, budget // 10)
    steps = max((budget - search) // (2 * classes + 2), 1)
    return attacks_of("adv_lib").sdf(model, x, labels, steps=steps, search_iter=search)


def _trust_region(model, x, labels, *, norm, targeted, budget, classes):
    # To choose a class costs a pass for each; a step three forward passes and a backward one.
    steps = max((budget - min(classes, 10) - 1) // 4, 1)
    return attacks_of("adv_lib").tr(model, x, labels, iter=steps, adaptive=True, p=norm)


def _folded_gaussian(name: str) -> Call:
    """Draws one element's values, ten up and, in VFGA, ten down: a forward pass each, besides the gradient."""
    cost = {"vfga": 22, "fga": 12}[name]

    def call(model, x, labels, *, norm, targeted, budget, classes):
        return getattr(attacks_of("adv_lib"), name)(model, x, labels, targeted, max_iter=max(budget // cost, 1))

    return call


def _foolbox(make: Callable[[Any, int, int], Any]) -> Call:
    """An attack of foolbox, made from `(foolbox.attacks, propagations, classes)`."""

    def call(model, x, labels, *, norm, targeted, budget, classes):
        import foolbox as fb

        criterion = fb.criteria.TargetedMisclassification if targeted else fb.criteria.Misclassification
        seen = fb.PyTorchModel(model.eval(), bounds=(0, 1), device=model.device)
        return make(fb.attacks, budget, classes).run(seen, x, criterion(labels))

    return call


def _torchattacks_l2(model, x, labels, *, norm, targeted, budget, classes):
    import torchattacks

    attack = torchattacks.CW(model, steps=budget // 2)
    if targeted:
        attack.set_mode_targeted_by_label(quiet=True)
    return attack(x, labels)


def _art_l2(model, x, labels, *, norm, targeted, budget, classes):
    import torch
    from art.attacks.evasion import CarliniL2Method

    seen = art_classifier(model, torch.nn.CrossEntropyLoss(), x, classes)
    # A step is a gradient and a line search, some eighteen propagations; ten rounds of ten steps are its own numbers.
    steps = max(min(budget // 180, 10), 1)
    attack = CarliniL2Method(seen, targeted=targeted, max_iter=steps, batch_size=len(x), verbose=False)
    goals = np.eye(classes, dtype=np.float32)[labels.cpu().numpy()]
    return torch.from_numpy(attack.generate(x.cpu().numpy(), goals))  # it works on the CPU


def _rounds(budget: int, cost: int) -> int:
    """The steps in each of nine rounds."""
    return max(budget // (9 * cost), 1)


def _order(norm):
    return norm


_L0 = ("l0", "l0_elements")
_ALL, _INF = (*_L0, "l1", "l2", "linf"), float("inf")

PEERS: dict[str, Contestant] = {
    "adv-lib.ddn": foreign("adv_lib", _steps("ddn", "steps", levels=None), "l2"),
    "adv-lib.fmn": foreign(
        "adv_lib",
        _steps("fmn", "steps", norm=_order, α_init=lambda norm: 10.0 if norm == _INF else 1.0),
        *_ALL,
    ),
    "adv-lib.alma": foreign(
        "adv_lib",
        _steps(
            "alma",
            "num_steps",
            distance=lambda norm: f"l{norm}",
            init_lr_distance=lambda norm: 0.1 if norm == 2 else 0.5,
        ),
        "l1",
        "l2",
    ),
    "adv-lib.pdgd": foreign("adv_lib", _steps("pdgd", "num_steps"), "l2"),
    "adv-lib.pdpgd": foreign(
        "adv_lib",
        _steps("pdpgd", "num_steps", norm=_order, proximal_operator=lambda norm: 23 if norm == 0 else None),
        *_ALL,
    ),
    "adv-lib.cw_l2": foreign("adv_lib", _carlini_l2, "l2"),
    "adv-lib.cw_linf": foreign("adv_lib", _carlini_linf, "linf"),
    "adv-lib.apgd": foreign("adv_lib", _apgd, "l1", "l2", "linf", targeted=False),
    "adv-lib.fab": foreign("adv_lib", _fab, "l1", "l2", "linf", targeted=False),
    "adv-lib.superdeepfool": foreign("adv_lib", _superdeepfool, "l2", targeted=False),
    "adv-lib.tr": foreign("adv_lib", _trust_region, "l2", "linf", targeted=False),
    "adv-lib.vfga": foreign("adv_lib", _folded_gaussian("vfga"), *_L0),
    "adv-lib.fga": foreign("adv_lib", _folded_gaussian("fga"), *_L0),
    "adv-lib.sigma_zero": foreign("adv_lib", _steps("sigma_zero", "num_steps"), *_L0, targeted=False),
    "foolbox.cw_l2": foreign(
        "foolbox", _foolbox(lambda a, budget, classes: a.L2CarliniWagnerAttack(steps=_rounds(budget, 2))), "l2"
    ),
    "foolbox.ddn": foreign("foolbox", _foolbox(lambda a, budget, classes: a.DDNAttack(steps=budget // 2)), "l2"),
    "foolbox.fmn_l1": foreign("foolbox", _foolbox(lambda a, budget, classes: a.L1FMNAttack(steps=budget // 2)), "l1"),
    "foolbox.fmn_l2": foreign("foolbox", _foolbox(lambda a, budget, classes: a.L2FMNAttack(steps=budget // 2)), "l2"),
    "foolbox.fmn_linf": foreign(
        "foolbox",
        _foolbox(lambda a, budget, classes: a.LInfFMNAttack(steps=budget // 2, max_stepsize=10.0)),
        "linf",
    ),
    "foolbox.fmn_l0": foreign("foolbox", _foolbox(lambda a, budget, classes: a.L0FMNAttack(steps=budget // 2)), *_L0),
    "foolbox.ead": foreign(
        "foolbox",
        _foolbox(lambda a, budget, classes: a.EADAttack(steps=_rounds(budget, 3), decision_rule="L1")),
        "l1",
    ),
    "foolbox.deepfool_l2": foreign(
        "foolbox",
        _foolbox(lambda a, budget, classes: a.L2DeepFoolAttack(steps=max((budget - 1) // (2 * classes - 2), 1))),
        "l2",
        targeted=False,
    ),
    "foolbox.deepfool_linf": foreign(
        "foolbox",
        _foolbox(lambda a, budget, classes: a.LinfDeepFoolAttack(steps=max((budget - 1) // (2 * classes - 2), 1))),
        "linf",
        targeted=False,
    ),
    "torchattacks.cw_l2": foreign("torchattacks", _torchattacks_l2, "l2"),
    "art.cw_l2": foreign("art", _art_l2, "l2"),
}
"""By name."""


def installed() -> Mapping[str, Contestant]:
    """Those of the peers whose library is there."""
    found = {name for module, name in LIBRARIES.items() if importlib.util.find_spec(module)}
    return {name: peer for name, peer in PEERS.items() if importlib.util.find_spec("torch") and peer.source in found}


def main(
    settings: tyro.conf.OmitArgPrefixes[racing.Race] = racing.Race(),
    *,
    model: tuple[str, ...],
    out: Path = Path("runs/race"),
    data: str = AUTO,
    data_folder: Path | None = None,
) -> None:
    """Our attacks and those of the libraries that are installed; the arguments are those of `cwjax race`."""
    compiling.keep(compiling.folder())
    peers = installed()
    if absent := sorted({PEERS[name].source for name in PEERS.keys() - peers.keys()}):
        say(f"Left out, for they are not installed: {', '.join(absent)}")
    subjects = [subject_of(name, data, data_folder) for name in model]
    racing.tell(racing.race(subjects, entries.OURS | dict(peers) | entries.own(settings.attack), settings, out), out)


if __name__ == "__main__":
    tyro.cli(main)
