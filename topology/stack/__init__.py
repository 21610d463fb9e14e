"""The local stack: the real servers as supervised local processes, with no container engine.

    programs.py     what one supervised process is: a Program and its Probe, as plain values
    probes.py       the questions that decide whether a server is ready
    ports.py        which port each server gets
    processes.py    facts about Linux processes, and how to stop them for certain
    layout.py       where everything lies under `.hindsight/`
    state.py        what the supervisor writes down: state of each program, endpoints
    supervisor.py   the one process that starts, watches, restarts and stops the programs
    child.py        one program under supervision
    launch.py       ties a program's life to the supervisor's
    supervision.py  the supervisor seen from outside: begun, waited for, ended, cleaned up after
    logs.py         the log files of the programs
    install.py      installs what is missing
    servers/        one module per server: its settings file and its Program
    plan.py         which servers, on which ports, with which endpoints
    local.py        LocalStack: the Python interface, used by the command line and by the tests

Nothing here is imported by importing this package, so the command line stays quick to start.
"""
