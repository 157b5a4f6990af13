"""`cwjax race`."""

from pathlib import Path

import tyro

from cwjax.lab.console.parsing import DataFolder
from cwjax.lab.files import outputs
from cwjax.lab.racing import entries, racing
from cwjax.lab.subjects import AUTO, subject_of


def race(
    settings: tyro.conf.OmitArgPrefixes[racing.Race] = racing.Race(),
    *,
    model: tuple[str, ...],
    out: Path = Path("runs/race"),
    data: str = AUTO,
    data_folder: DataFolder = None,
) -> None:
    """Set attacks against each other, on the same images and with as many propagations each, and write the standings.

    Writes OUT/race.md, race.parquet (one row an attack, budget and example), race.json and figures. What ran before
    with the same settings is not run again.

    The attacks, by the norm that they can make small; all of them take part if --attack is left out:

        l2: l2, lbfgs, fast_l2, ddn, fmn, alma, alma_fixed_rate, pdgd, pdpgd, deepfool, boundary_projection,
        brendel_bethge, superdeepfool, trust_region, fgsm, bim, pgd, mifgsm, apgd, apgd_targeted.
        linf: linf, fast_linf, fmn, pdpgd, deepfool, brendel_bethge, trust_region, fgsm, bim, pgd, mifgsm, apgd, pma,
        apgd_targeted.
        l1: l1, fast_l1, fmn, alma, alma_fixed_rate, pdpgd, ead, brendel_bethge, fgsm, bim, pgd, mifgsm.
        l0, l0_elements: l0, fast_l0, fmn, pdpgd, sigma_zero, jsma_z, jsma_f, vfga, fga, sparse_pgd.

    An attack of your own takes part as MODULE:FUNCTION, where FUNCTION(norm, steps, classes) returns a cwjax.Attack
    that is done in this number of steps. Its keyword arguments that are numbers can be set and tuned, like those of
    any other attack. In mine.py:

        def tangent(norm, steps, classes, *, step=0.1):
            return my_attack(steps=steps, step=step)

        cwjax race --model zoo:mnist_cnn --attack mine:tangent fmn --tune fmn --set mine:tangent.step=0.3

    A warning names the attacks that fool fewer than 90 % of the examples where another fools all: with another step
    length they may fool all. --tune fmn finds one on images that nobody is judged on. It tries a hundredth to a hundred
    times the attack's own, and goes on where the best is at an end. --set fmn.first_step=0.03 gives it one.

    Args:
      settings: of the race.
      model: one or several; see `cwjax attack`; how a model of another framework is taken stands behind its name:
        net.onnx,layout=NCHW,mean=0.5.
      out: the folder to write to.
      data: whose test images; auto: see `cwjax attack`.
      data_folder: where data is kept (by default $CWJAX_DATA, or else ~/.cache/cwjax/data).
    """
    outputs.check(out, "race", resumed=True)
    subjects = [subject_of(name, data, data_folder) for name in model]
    racing.tell(racing.race(subjects, entries.OURS | entries.own(settings.attack), settings, out), out)
