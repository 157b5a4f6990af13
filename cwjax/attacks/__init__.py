"""The attacks, one file each. All are of type `Attack`, and all runners and transforms take them."""

from cwjax.attacks import fast
from cwjax.attacks.alma import alma
from cwjax.attacks.apgd import apgd, apgd_targeted
from cwjax.attacks.audio import audio, audio_aligned
from cwjax.attacks.boundary_projection import boundary_projection
from cwjax.attacks.brendel_bethge import brendel_bethge
from cwjax.attacks.carlini import l0, l1, l2, linf
from cwjax.attacks.ddn import ddn
from cwjax.attacks.deepfool import deepfool
from cwjax.attacks.ead import ead
from cwjax.attacks.fgsm import fgsm
from cwjax.attacks.fmn import fmn
from cwjax.attacks.jsma import jsma_f, jsma_z
from cwjax.attacks.lbfgs import lbfgs, quasi_newton
from cwjax.attacks.mifgsm import mifgsm
from cwjax.attacks.pdpgd import pdgd, pdpgd
from cwjax.attacks.pgd import bim, pgd
from cwjax.attacks.pma import pma
from cwjax.attacks.registry import ATTACKS
from cwjax.attacks.sigma_zero import sigma_zero
from cwjax.attacks.sparse_pgd import sparse_pgd
from cwjax.attacks.superdeepfool import superdeepfool
from cwjax.attacks.trust_region import trust_region
from cwjax.attacks.vfga import fga, vfga

__all__ = [
    "ATTACKS",
    "alma",
    "apgd",
    "apgd_targeted",
    "audio",
    "audio_aligned",
    "bim",
    "boundary_projection",
    "brendel_bethge",
    "ddn",
    "deepfool",
    "ead",
    "fast",
    "fga",
    "fgsm",
    "fmn",
    "jsma_f",
    "jsma_z",
    "l0",
    "l1",
    "l2",
    "lbfgs",
    "linf",
    "mifgsm",
    "pdgd",
    "pdpgd",
    "pgd",
    "pma",
    "quasi_newton",
    "sigma_zero",
    "sparse_pgd",
    "superdeepfool",
    "trust_region",
    "vfga",
]
