"""What the garbage collector need not look at."""

import gc


def settle_memory() -> None:
    """What is here now stays for long: the collector leaves it alone. Called again when much has been replaced."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
