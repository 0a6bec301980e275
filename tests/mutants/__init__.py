"""Random mutants of a room, and those that no test notices: `python tests/mutants posterior --seed 0 --count 40`."""
