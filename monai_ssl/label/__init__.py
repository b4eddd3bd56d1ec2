"""The app for MONAI Label, and the command that serves it; only :mod:`~monai_ssl.label.app` and its tasks import it."""
