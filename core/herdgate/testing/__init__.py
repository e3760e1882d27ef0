"""What plugin authors and this project test with: simulated backends on real sockets, with faults on demand.

Import from the modules: `herdgate.testing.simulated` has the server, `herdgate.testing.faults` what can go wrong.
"""
