"""Other attacks than the paper's, one file each; all are `Attack`s, and all runners and spreads take them."""
