"""One module per server of the local stack: it writes the server's settings file and returns its Program.

Each has `PORTS`, the default port of each of its listeners by name, and `program(...)`. `topology.stack.plan` puts them
together.
"""
