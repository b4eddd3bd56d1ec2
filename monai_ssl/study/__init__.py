"""Experiments: bundles run as processes, and what comes out of them."""

from monai_ssl.study.demo import DemoResult, run_demo
from monai_ssl.study.execute import bundle_command, run_bundle

__all__ = ["DemoResult", "bundle_command", "run_bundle", "run_demo"]
