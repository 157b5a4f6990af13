"""What several messages say in the same words."""

from collections.abc import Sequence


def shortened(words: Sequence[str], most: int) -> list[str]:
    """The first of the words, and how many more there are.

    Args:
      words: to be listed on a line.
      most: that are listed.

    Example:
      >>> from cwjax.words import shortened
      >>> shortened(["a", "b", "c", "d"], 2)
      ['a', 'b', '2 more']
    """
    rest = len(words) - most
    return [*words[:most], *([f"{rest} more"] if rest > 0 else [])]
