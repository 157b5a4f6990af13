"""What one attack is asked for, whatever the model and the images."""

import dataclasses

from cwjax.lab.attacking.presets import Settings
from cwjax.lab.attacking.rows import Targets


@dataclasses.dataclass(frozen=True)
class Request:
    """An attack by name, and how it is run. It decides the results, together with a model and its images."""

    attack: str  # a name in `presets.PRESETS`
    settings: Settings = Settings()  # None in it: the attack's own, or complete, as `presets.resolved` makes them
    targets: Targets = "untargeted"  # with "best" and "worst" only each example's easiest or hardest target is kept
    seed: int = 0  # of the targets drawn and of the attack
    precision: str = "highest"  # of the search, see `cwjax.verified`
    rounded: bool = False  # whether the results are to have 8-bit pixels, see `cwjax.discretised`
    restored: bool = False  # whether changes that are not needed are undone in the end, see `cwjax.restored`
