"""How everything is wired and run: settings, command line, local stack and deployment.

The only package that builds clients, reads settings and reads the environment. Everything below it gets what it needs as
arguments. The entry point of the program is `topology.cli.main`.
"""
