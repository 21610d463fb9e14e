"""`python -m topology.cli`: the command line without the installed script."""

from topology.cli import main

main()
