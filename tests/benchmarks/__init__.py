"""How fast minigrad is, next to hand-written NumPy and to whichever other libraries are installed.

    python -m tests.benchmarks                       # all of it, some minutes
    python -m tests.benchmarks --quick               # a rough idea
    python -m tests.benchmarks --only chain costs    # some of it
    python -m tests.benchmarks --plot times.png      # with a picture

To add a network, add a row to `networks.NETWORKS`; to add a contender, add a function to `contenders` or `functions`.

The memory allocator is part of what is measured: by default, glibc gives large freed arrays back to the system, and a
program whose arrays lie so pays for their pages anew in every step. To take that out of the comparison, set
MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ to a large number in the environment; the workers inherit it.
"""
