"""`python -m provisioning`: the same as `moskvenok`, where the package is not installed."""

from provisioning.cli import main

main()
