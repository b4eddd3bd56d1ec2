"""The report page: one HTML file that says what a study or a run found."""

from monai_ssl.report.page import Written, write_report

__all__ = ["Written", "write_report"]
