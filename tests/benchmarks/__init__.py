"""How fast minigrad trains, next to hand-written NumPy and to whichever other libraries are installed.

    python -m tests.benchmarks            # all of it, a few minutes
    python -m tests.benchmarks --quick    # a rough idea, in well under a minute

To add a network, add a row to `networks.NETWORKS`; to add a contender, add a function to `contenders`.

The memory allocator is part of what is measured: by default, glibc gives large freed arrays back to the system, and a
program whose arrays lie so pays for their pages anew in every step. To take that out of the comparison, set
MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ to a large number in the environment; the workers inherit it.
"""
