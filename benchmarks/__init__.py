"""One file per question; every figure is measured in the run that prints it."""
