"""How fast minigrad is, next to hand-written NumPy and to whichever other libraries are installed.

    python -m tests.benchmarks                       # all of it, some minutes
    python -m tests.benchmarks --quick               # a rough idea
    python -m tests.benchmarks --only chain costs    # some of it
    python -m tests.benchmarks --plot times.png      # with a picture

To add a network, add a row to `networks.NETWORKS` or `layers.LAYERS`; to add a contender, add a function to
`contenders` or `functions`.

The memory allocator is part of what is measured: by default, glibc gives large freed arrays back to the system, and a
program whose arrays lie so pays for their pages anew in every step. minigrad avoids that by keeping arrays, and so may
hand-written NumPy here: it runs in a process that has freed one large block before.
"""
