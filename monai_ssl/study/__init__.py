"""Experiments: bundles run as processes, studies of how many labels a method saves, and the statistics of them."""

from monai_ssl.study.conduct import StudyResult, preview_study, run_study
from monai_ssl.study.demo import DemoResult, run_demo
from monai_ssl.study.execute import bundle_command, run_bundle

__all__ = ["DemoResult", "StudyResult", "bundle_command", "preview_study", "run_bundle", "run_demo", "run_study"]
