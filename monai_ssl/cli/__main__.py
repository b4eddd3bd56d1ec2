"""``python -m monai_ssl.cli``."""

from monai_ssl.cli import main

main()
